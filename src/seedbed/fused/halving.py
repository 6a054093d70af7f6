"""Successive halving: at rungs the members of a stack that fall behind are dropped from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Halving:
    """Of a stack's members the best 1/factor, rounded up, stay after `first` epochs, of those after first·factor, ….

    `metric` of that epoch decides; one whose name ends in "loss" is better the smaller it is. This is the synchronous
    form (Jamieson & Talwalkar 2016): ASHA (Li et al. 2018) promotes asynchronously lest workers wait at a rung, and a
    stack's members, which advance in lockstep, never wait.
    """

    factor: int
    first: int
    metric: str

    def is_rung(self, epochs: int) -> bool:
        rung = self.first
        while rung < epochs:
            rung *= self.factor
        return rung == epochs

    def survivors(self, metric: Tensor, over: Tensor, groups: int) -> tuple[Tensor, int]:
        """metric, over: [M] in `groups` groups of one size → (rows that stay, in their order; their groups).

        Each group keeps its own best, so groups stay of one size and those are compared that saw the same batches;
        where groups are single members, the best of these stay. Not finite or `over` counts as worst; of equals the
        earlier stays.
        """
        score = -metric if self.metric.endswith("loss") else metric
        score = score.masked_fill(over | ~torch.isfinite(score), -torch.inf)
        table = _table(score, groups)
        rows = _best(table, -(-table.shape[1] // self.factor))
        return rows, groups if len(table) == groups else len(rows)


def not_over(over: Tensor, groups: int) -> tuple[Tensor, int]:
    """over: [M] → (rows that are not over, and as many others as make groups of one size; their groups)."""
    table = _table(~over, groups)
    rows = _best(table.byte(), int(table.sum(1).max()))
    return rows, groups if len(table) == groups else len(rows)


def _table(values: Tensor, groups: int) -> Tensor:
    """[M] → a row for each of the groups; where those are single members, one row, and fewer of them can stay."""
    return values.view(1 if groups == len(values) else groups, -1)


def _best(table: Tensor, keep: int) -> Tensor:
    """[G, m] → the places, counted through, of the `keep` highest of each row; of equals the earlier."""
    best = table.sort(dim=1, descending=True, stable=True).indices[:, :keep].sort(dim=1).values
    return (best + torch.arange(len(table))[:, None] * table.shape[1]).flatten()
