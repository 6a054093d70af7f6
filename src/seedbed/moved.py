"""Paths of earlier versions' classes and functions, and their paths today.

Configs name them in `_target_`, and manifests and checkpoints keep those configs. The table is applied when one is
read.
"""

from __future__ import annotations

from typing import Any

# path in an earlier version → path today
MOVED = {
    "seedbed.data.datamodule.DigitsModule": "seedbed.training.datamodule.DataModule",
    "seedbed.supervised.Supervised": "seedbed.training.supervised.Supervised",
    "seedbed.gan.GAN": "seedbed.training.gan.GAN",
    "seedbed.lsuv.lsuv": "seedbed.inits.lsuv.lsuv",
    "seedbed.fixup.fixup": "seedbed.inits.fixup.fixup",
    "seedbed.optim.BasicOptim": "seedbed.optim.basic.BasicOptim",
    **{
        f"seedbed.inits.{name}": f"seedbed.inits.schemes.{name}"
        for name in (
            *("default", "normal", "kaiming_normal", "kaiming_uniform", "kaiming_scratch"),
            *("xavier_normal", "xavier_uniform", "orthogonal", "lecun_normal"),
        )
    },
}


def with_current_targets(node: Any) -> Any:
    """Return a copy of a config in which every `_target_` has its path of today."""
    if isinstance(node, dict):
        return {
            key: MOVED.get(value, value)
            if key == "_target_" and isinstance(value, str)
            else with_current_targets(value)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [with_current_targets(child) for child in node]
    return node
