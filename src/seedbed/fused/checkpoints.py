"""The checkpoints of a stack as a whole, and those that each member's solo run would have written."""

from __future__ import annotations

import io
from collections.abc import Callable
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seedbed.files import write_whole
from seedbed.fused.member_events import MemberEvents
from seedbed.fused.stack import Stack
from seedbed.fused.templates import Template, marks
from seedbed.optim.stacked import stacked_kind
from seedbed.training.checkpoints import Checkpoints, dump
from seedbed.training.interruption import was_interrupted
from seedbed.training.loss_record import LossRecord


class StackCheckpoints(Checkpoints):
    """Writes last.ckpt of the whole stack every few seconds, and keeps Lightning's progress at each epoch's end.

    The stack itself keeps the members' best states. events: the members' event files, which grow at each epoch's end.
    """

    def __init__(self, folder: str | Path, events: MemberEvents | None = None, **options: Any):
        super().__init__(folder, **options)
        self.events = events
        # epoch → Lightning's checkpoint at its end, without tensors
        self.progress: dict[int, dict[str, Any]] = {}

    def steps(self) -> list[int]:
        """Return the run's steps at the end of each epoch."""
        return [self.progress[epoch]["global_step"] for epoch in sorted(self.progress)]

    def state_dict(self) -> dict:
        return {"progress": self.progress}

    def load_state_dict(self, state: dict) -> None:
        self.progress = state["progress"]

    def _is_good(self, module) -> bool:
        # members that diverged must not keep the stack from writing its checkpoint
        return True

    def on_validation_end(self, trainer, module) -> None:
        """Do nothing: the stack keeps its members' best states."""

    def on_train_epoch_end(self, trainer, module) -> None:
        # Lightning ends an epoch in which a signal comes; last.ckpt then holds the moment before
        if self._stopped_inside:
            return
        self.progress[trainer.current_epoch] = _without_tensors(dump(trainer))
        if self.events:
            self.events.grow(self.steps())
        if was_interrupted(trainer):
            self._write(trainer)
        else:
            self._write_if_due(trainer)

    def on_fit_end(self, trainer, module) -> None:
        """Write nothing: the members' checkpoints follow."""


def _without_tensors(checkpoint: dict[str, Any]) -> dict[str, Any]:
    kept = ("epoch", "global_step", "steps", "pytorch-lightning_version", "loops", "lr_schedulers", "DataModule")
    kept += ("format", "made_with")
    return deepcopy({name: checkpoint[name] for name in kept if name in checkpoint})


class MemberCheckpoints:
    """Writes checkpoints/best.ckpt and last.ckpt of the members of a trained stack."""

    def __init__(self, stack: Stack, progress: dict[int, dict[str, Any]], rng: torch.Tensor):
        self.stack, self.progress, self.rng = stack, progress, rng
        self._tensors = {"best": stack.best, "last": stack.final}
        # name of the file → tensor → the bytes of each member's, [M, bytes]
        self._bytes = {
            name: {key: _bytes(value) for key, value in tensors.items() if key != "stop.wait"}
            for name, tensors in self._tensors.items()
        }
        self._groups: dict[torch.optim.Optimizer, list[dict[str, Any]]] = {}
        self._templates: dict[str, Template | None] = {}

    def write(self, folder: Path, i: int, optimizer: torch.optim.Optimizer, history: list[dict]) -> None:
        """Write member i's two files. optimizer: its solo run's, over any parameters; history: its rows."""
        stack = self.stack
        stopped = int(stack.ended_at[i]) >= 0
        last_epoch = int(stack.ended_at[i]) if stopped else len(stack.history) - 1
        # -1: none
        best_epoch = int(stack.best_epoch[i])
        if optimizer not in self._groups:
            self._groups[optimizer] = optimizer.state_dict()["param_groups"]
        folder.mkdir(parents=True, exist_ok=True)
        for name, epoch in (("best", best_epoch), ("last", last_epoch)):
            if epoch < 0:
                continue
            rows = [row for row in history if row["epoch"] <= epoch + 1]
            # the best epoch may also be the last
            over = stopped and epoch == last_epoch
            content = {
                "run": {
                    "metrics": {key: rows[-1][key] for key in stack.history[epoch]},
                    "diverged": over and bool(stack.diverged[i]),
                    "over": over,
                },
                "best": {"best_score": float(stack.best_score[i]), "best_epoch": best_epoch},
                "groups": [{**group, "lr": rows[-1]["lr"]} for group in self._groups[optimizer]],
                "history": rows,
                "seconds": rows[-1]["seconds"],
            }
            write_whole(folder / f"{name}.ckpt", self._checkpoint(name, epoch, i, content))

    def _checkpoint(self, name: str, epoch: int, i: int, content: dict[str, Any]) -> bytes:
        """Return member i's checkpoint; members that differ in numbers and weights only share a template."""
        wait = self._tensors[name]["stop.wait"][i].item() if self.stack.stopper else None
        numbers: list[float] = []

        def take(number: float) -> type:
            numbers.append(number)
            return float

        key = repr((name, epoch, wait, _with_floats(content, take)))
        tensors = [rows[i] for rows in self._bytes[name].values()]
        if key not in self._templates:
            saved = _saved(self._content(name, epoch, i, content)[0])
            places = marks()
            template = Template(*self._content(name, epoch, i, _with_floats(content, lambda _: next(places))))
            # another torch may write another kind of file
            self._templates[key] = template if template.filled(numbers, tensors) == saved else None
        template = self._templates[key]
        return template.filled(numbers, tensors) if template else _saved(self._content(name, epoch, i, content)[0])

    def _content(
        self, name: str, epoch: int, i: int, content: dict[str, Any]
    ) -> tuple[dict[str, Any], list[torch.Tensor]]:
        """Return member i's checkpoint, and those of its tensors that differ between members."""
        tensors = {key: value[i].cpu().clone() for key, value in self._tensors[name].items()}
        checkpoint = {
            **self.progress[epoch],
            "run": content["run"],
            "state_dict": {key: value for key, value in tensors.items() if key.startswith("net.")},
            "callbacks": {Checkpoints.__qualname__: content["best"]} | self._stopper(tensors),
            "optimizer_states": [{"state": self._optimizer_state(tensors, epoch), "param_groups": content["groups"]}],
            "losses": LossRecord().state_dict(),
            "history": content["history"],
            "seconds": content["seconds"],
            "rng": self.rng,
        }
        return checkpoint, [tensors[key] for key in self._bytes[name]]

    def _stopper(self, tensors: dict[str, torch.Tensor]) -> dict[str, dict]:
        """Return the state of a member's EarlyStopping, if it has one."""
        if self.stack.stopper is None:
            return {}
        stopper = copy(self.stack.stopper)
        stopper.wait_count, stopper.best_score = int(tensors["stop.wait"]), tensors["stop.score"]
        return {stopper.state_key: stopper.state_dict()}

    def _optimizer_state(self, tensors: dict[str, torch.Tensor], epoch: int) -> dict[int, dict[str, torch.Tensor]]:
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optim."):
                _, index, name = key.split(".")
                state.setdefault(int(index), {})[name] = value
        if stacked_kind(self.stack.kind).counts_steps:
            for index in range(len(self.stack.net.stacked)):
                steps = float(self.progress[epoch]["global_step"])
                state.setdefault(index, {})["step"] = torch.tensor(steps)
        return state


def _saved(checkpoint: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def _bytes(value: torch.Tensor) -> np.ndarray:
    """Return a tensor [M, …] as bytes [M, B]."""
    return value.cpu().reshape(len(value), -1).contiguous().view(torch.uint8).numpy()


def _with_floats(node: Any, new: Callable[[float], Any]) -> Any:
    """Return a copy of nested dicts, lists and tuples in which new(x) stands for each float x."""
    if isinstance(node, float):
        return new(node)
    if isinstance(node, dict):
        return {key: _with_floats(child, new) for key, child in node.items()}
    return type(node)(_with_floats(child, new) for child in node) if isinstance(node, list | tuple) else node
