"""The checkpoints of a stack as a whole, and those that each member's solo run would have written."""

from __future__ import annotations

from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import torch

from seedbed.fused.stack import Stack
from seedbed.optim.stacked import stacked_kind
from seedbed.training.checkpoints import Checkpoints, dump, save
from seedbed.training.interruption import was_interrupted
from seedbed.training.loss_record import LossRecord


class StackCheckpoints(Checkpoints):
    """Writes last.ckpt of the whole stack every few seconds, and keeps Lightning's progress at each epoch's end.

    The stack itself keeps the members' best states.
    """

    def __init__(self, folder: str | Path, **options: Any):
        super().__init__(folder, **options)
        # epoch → Lightning's checkpoint at its end, without tensors
        self.progress: dict[int, dict[str, Any]] = {}

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
        if was_interrupted(trainer):
            self._write(trainer)
        else:
            self._write_if_due(trainer)

    def on_fit_end(self, trainer, module) -> None:
        """Write nothing: the members' checkpoints follow."""


def _without_tensors(checkpoint: dict[str, Any]) -> dict[str, Any]:
    kept = ("epoch", "global_step", "steps", "pytorch-lightning_version", "loops", "lr_schedulers", "DataModule")
    kept += ("format", "made_with", "first_layer")
    return deepcopy({name: checkpoint[name] for name in kept if name in checkpoint})


class MemberCheckpoints:
    """Writes checkpoints/best.ckpt and last.ckpt of the members of a trained stack."""

    def __init__(self, stack: Stack, progress: dict[int, dict[str, Any]], rng: torch.Tensor):
        self.stack, self.progress, self.rng = stack, progress, rng
        self.best = {name: value.cpu() for name, value in stack.best.items()}
        self.final = {name: value.cpu() for name, value in stack.final.items()}

    def _stopper(self, tensors: dict[str, torch.Tensor], i: int) -> dict[str, dict]:
        """Return the state of member i's EarlyStopping, if it has one."""
        if self.stack.stopper is None:
            return {}
        stopper = copy(self.stack.stopper)
        stopper.wait_count, stopper.best_score = int(tensors["stop.wait"][i]), tensors["stop.score"][i].clone()
        return {stopper.state_key: stopper.state_dict()}

    def write(self, folder: Path, i: int, optimizer: torch.optim.Optimizer, history: list[dict]) -> None:
        """Write member i's two files. optimizer: its solo run's, over any parameters; history: its rows."""
        stack = self.stack
        stopped = int(stack.ended_at[i]) >= 0
        last_epoch = int(stack.ended_at[i]) if stopped else len(stack.history) - 1
        # -1: none
        best_epoch, score = int(stack.best_epoch[i]), float(stack.best_score[i])
        checkpoints = {Checkpoints.__qualname__: {"best_score": score, "best_epoch": best_epoch}}
        folder.mkdir(parents=True, exist_ok=True)
        for name, tensors, epoch in (("best", self.best, best_epoch), ("last", self.final, last_epoch)):
            if name == "best" and best_epoch < 0:
                continue
            progress = self.progress[epoch]
            metrics = {k: v[i].item() for k, v in stack.history[epoch].items()}
            rows = [row for row in history if row["epoch"] <= epoch + 1]
            # the best epoch may also be the last
            over = stopped and epoch == last_epoch
            run = {"metrics": metrics, "diverged": over and bool(stack.diverged[i]), "over": over}
            save(
                {
                    **progress,
                    "run": run,
                    "state_dict": {k: v[i].clone() for k, v in tensors.items() if k.startswith("net.")},
                    "callbacks": checkpoints | self._stopper(tensors, i),
                    "optimizer_states": [
                        _optimizer_state(tensors, i, optimizer, metrics["lr"], progress["global_step"])
                    ],
                    "losses": LossRecord().state_dict(),
                    "history": rows,
                    "seconds": rows[-1]["seconds"],
                    "rng": self.rng,
                },
                folder / f"{name}.ckpt",
            )


def _optimizer_state(tensors: dict, i: int, optimizer: torch.optim.Optimizer, lr: float, steps: int) -> dict:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optim."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value[i].clone()
    if stacked_kind(type(optimizer)).counts_steps:
        for index in range(len(optimizer.param_groups[0]["params"])):
            state.setdefault(index, {})["step"] = torch.tensor(float(steps))
    groups = optimizer.state_dict()["param_groups"]
    return {"state": state, "param_groups": [{**group, "lr": lr} for group in groups]}
