"""Seedbed: small, controlled training runs with PyTorch Lightning and Hydra.

    import seedbed
    run = seedbed.train("model=linear", "optim.lr=1")
    sweep = seedbed.sweep("hydra/launcher=fused", "optim.lr=0.1,1", "seed=range(0,5)")
    run = seedbed.load("outputs/runs/…")
    sweep = seedbed.load_sweep("outputs/sweeps/…")
    table = seedbed.runs("outputs/**")

See seedbed.api. Importing this imports neither torch nor Hydra: the first call does.
"""

from __future__ import annotations

from typing import Any

__all__ = ["load", "load_sweep", "runs", "sweep", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from seedbed import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
