"""Find the step, the learning rate and the layer at which a run diverged.

A run notices only every tenth step that its loss left the range, and then all its weights may be nan. So the layer is
found afterwards: the run is repeated from its last good checkpoint, or from the start, and each layer's output is
looked at.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.schedules import Schedule
from seedbed.training.build import Parts, build_trainer
from seedbed.training.datamodule import DataModule
from seedbed.training.loss_record import CHECK_EVERY, OUT_OF_BOUNDS

# seconds that a repetition may take
LONGEST = 10.0


def lr_at(step: int, total_steps: int, optimizer: torch.optim.Optimizer, schedule: Schedule) -> float:
    """Return the learning rate of a step, the first being 1, of a run with this optimiser and schedule."""
    return float(schedule((step - 1) / total_steps, "lr", optimizer.defaults["lr"]))


def tell(metrics: Mapping[str, Any]) -> str:
    """Return a run's status; if it diverged, with the step, the lr and the layer."""
    if metrics["status"] != "diverged":
        return metrics["status"]
    layer = f", first in {metrics['diverged_layer']}" if metrics.get("diverged_layer") else ""
    return f"diverged at step {metrics['diverged_at']} with lr {metrics['diverged_lr']:g}{layer}"


def first_diverged_layer(
    config: Mapping[str, Any], data: DataModule, step: int, checkpoint: Path | None = None
) -> str | None:
    """Return the name and class of the layer whose output left the range first; `loss` if no layer's did.

    None where the repetition does not diverge at about that step, or takes too long.
    """
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Lightning warns that the callbacks of the checkpoint are missing
        warnings.simplefilter("ignore")
        module = Parts().module(config, data)
        # the first layer too is to be watched
        module.reader, module.takes_rows = None, False
        off = ("enable_progress_bar", "enable_checkpointing", "logger", "fast_dev_run")
        # no capture, because hooks look at the layers
        options = {**dict.fromkeys(off, False), "profiler": None, "capture": "off"}
        trainer = build_trainer({**config, "trainer": config["trainer"] | options}, False, [])
        watch = _Watch(module, step + CHECK_EVERY)
        module.net.apply(watch.look_at)
        # a copy: the run's own data keep their trainer
        trainer.fit(module, copy(data), ckpt_path=checkpoint)
    return watch.found or "loss" if module.diverged else None


class _Watch:
    """Looks at the outputs of layers until one leaves the range, and stops the run after step `last` or LONGEST."""

    def __init__(self, module: Any, last: int):
        self.module, self.last, self.until = module, last, time.monotonic() + LONGEST
        self.names = {layer: name for name, layer in module.net.named_modules()}
        # name of a layer → largest size of its outputs within the range
        self.bounds: dict[str, float] = {}
        self.found: str | None = None

    def look_at(self, layer: nn.Module) -> None:
        if not any(True for _ in layer.children()):
            layer.register_forward_hook(self.hook(f"{self.names[layer]} ({type(layer).__name__})".strip()))

    def hook(self, name: str) -> Any:
        def look(layer: nn.Module, inputs: tuple, output: Any) -> None:
            if self.found is None and isinstance(output, Tensor):
                size = output.detach().abs().max().item()
                # not finite, or OUT_OF_BOUNDS times the layer's first size (or 1, if that is larger)
                if not size <= self.bounds.setdefault(name, OUT_OF_BOUNDS * max(1.0, size)):
                    self.found = name
            if self.module.steps > self.last or time.monotonic() > self.until:
                self.module.trainer.should_stop = True

        return look
