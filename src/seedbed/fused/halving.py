"""Successive halving: at rungs the members of a stack that fall behind are dropped from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Halving:
    """The best 1/factor of a stack's members stay after `first` epochs, of those again after first·factor, ….

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
        score = score.masked_fill(over | ~torch.isfinite(score), -torch.inf).view(groups, -1)
        if score.shape[1] > 1:
            return best_rows(score, -(-score.shape[1] // self.factor)), groups
        rows = best_rows(score.view(1, -1), -(-groups // self.factor))
        return rows, len(rows)


def best_rows(score: Tensor, keep: int) -> Tensor:
    """[G, m] → the rows, counted through, of the `keep` highest of each group."""
    best = score.sort(dim=1, descending=True, stable=True).indices[:, :keep].sort(dim=1).values
    return (best + torch.arange(len(score))[:, None] * score.shape[1]).flatten()
