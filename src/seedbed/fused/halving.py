"""Successive halving: at rungs, the members of a stack that fall behind are dropped from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Halving:
    """Keeps the best 1/factor of a stack's members, rounded up, at each rung: after `first` epochs, first·factor, ….

    The epoch's `metric` decides; one whose name ends in "loss" is better the smaller it is. This is the synchronous
    form (Jamieson & Talwalkar 2016). ASHA (Li et al. 2018) promotes asynchronously so that no worker waits at a rung;
    the members of a stack advance in lockstep and never wait.
    """

    factor: int
    first: int
    metric: str

    def is_rung(self, epochs: int) -> bool:
        rung = self.first
        while rung < epochs:
            rung *= self.factor
        return rung == epochs

    def survivors(self, metric: Tensor, stopped: Tensor, groups: int) -> tuple[Tensor, int]:
        """Return the indices of the members that stay, in order, and the number of their groups.

        metric, stopped: [M], in `groups` groups of one size. Each group keeps its own best, so groups stay of one size
        and only members that saw the same batches are compared. Groups of one compete with each other. A value that is
        not finite and a member that stopped count as worst; ties go to the earlier member.
        """
        score = -metric if self.metric.endswith("loss") else metric
        score = score.masked_fill(stopped | ~torch.isfinite(score), -torch.inf)
        table = _group_table(score, groups)
        rows = _best(table, -(-table.shape[1] // self.factor))
        return rows, groups if len(table) == groups else len(rows)


def still_running(stopped: Tensor, groups: int) -> tuple[Tensor, int]:
    """Return the indices of the members that have not stopped, and the number of their groups.

    stopped: [M]. Where groups would differ in size, members that stopped fill up the smaller ones.
    """
    table = _group_table(~stopped, groups)
    rows = _best(table.byte(), int(table.sum(1).max()))
    return rows, groups if len(table) == groups else len(rows)


def _group_table(values: Tensor, groups: int) -> Tensor:
    """Reshape [M] to [G, M/G]; groups of one share a row, because any number of them can stay."""
    return values.view(1 if groups == len(values) else groups, -1)


def _best(table: Tensor, keep: int) -> Tensor:
    """Return the flat indices, ascending, of the `keep` highest values in each row [G, m]; ties go to the earlier."""
    best = table.sort(dim=1, descending=True, stable=True).indices[:, :keep].sort(dim=1).values
    return (best + torch.arange(len(table))[:, None] * table.shape[1]).flatten()
