"""Checkpoints of earlier versions, brought into today's form when they are read."""

from __future__ import annotations

from typing import Any

import torch


def upgrade(checkpoint: dict[str, Any]) -> None:
    """Add the step counter and the record of losses where a checkpoint has none."""
    if "steps" in checkpoint:
        return
    checkpoint["steps"] = checkpoint["global_step"]
    # rows of sums, one for each loss that was recorded, then of samples; of a stack [2, M]
    *sums, samples = checkpoint.pop("trained").cpu()
    sums = sums[0] if len(sums) == 1 else torch.stack(sums)
    never = torch.zeros(sums.shape, dtype=torch.long)
    samples = int(samples.flatten()[0])
    checkpoint["losses"] = {"sums": sums, "samples": samples, "diverged_at": never, "window": []}
