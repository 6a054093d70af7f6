"""Check before training whether a run can resume from a checkpoint; then let the config win over it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from seedbed.errors import ConfigError
from seedbed.optim.driven import restore
from seedbed.training.load import one_line, read_checkpoint, require_same
from seedbed.training.supervised import Supervised

# entries that every run's checkpoint has, with their types
CONTENT = {"loops": dict, "callbacks": dict, "optimizer_states": list, "pytorch-lightning_version": str}
# options of an optimiser that some versions of torch lack, or that only change how fast a step is
NEUTRAL = {"params", "param_names", "foreach", "fused", "capturable", "differentiable", "maximize", "initial_lr"}
NEUTRAL |= {"decoupled_weight_decay"}
Checkpoint = Mapping[str, Any]


def check_checkpoint(path: str, trainer: pl.Trainer, module: Supervised, folder: Path) -> None:
    """Raise ConfigError unless the module's run, in `folder`, can go on from the checkpoint."""
    place = f"ckpt_path={path}"
    checkpoint = read_checkpoint(Path(path), place)
    for name, kind in CONTENT.items():
        if not isinstance(checkpoint.get(name), kind):
            raise ConfigError(f"{place}: is no checkpoint of a run: it has no {name}")
    with one_line(f"{place}: is damaged: "):
        require_same(module, checkpoint["state_dict"], place)
        _check_progress(checkpoint, trainer, place, is_own=folder.resolve() in Path(path).resolve().parents)
        if any(True for _ in module.parameters()):
            _check_optimizers(checkpoint, module, place)


def _check_progress(checkpoint: Checkpoint, trainer: pl.Trainer, place: str, is_own: bool) -> None:
    """Raise ConfigError if nothing is left to train; in its own folder a run may finish what a kill interrupted."""
    # written at the end of an epoch, before Lightning counts that as completed
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    steps = int(checkpoint.get("steps", checkpoint["global_step"]))
    for key, most, done in (("max_epochs", trainer.max_epochs, epochs), ("max_steps", trainer.max_steps, steps)):
        if most is not None and most >= 0 and (done > most or (done == most and not is_own)):
            raise ConfigError(
                f"{place}: has {done} {key.removeprefix('max_')} behind it, nothing is left to train; "
                f"raise trainer.{key}={most}"
            )


def _check_optimizers(checkpoint: Checkpoint, module: Supervised, place: str) -> None:
    """Raise ConfigError if the optimiser could not make a step from the state that the checkpoint has."""
    configured = module.configure_optimizers()
    optimizers = configured if isinstance(configured, list | tuple) else [configured]
    states = checkpoint["optimizer_states"]
    if len(states) != len(optimizers):
        raise ConfigError(f"{place}: has the state of {len(states)} optimisers, the run has {len(optimizers)}")
    for state, optimizer in zip(states, optimizers, strict=True):
        name = type(optimizer).__name__
        mine = [group.keys() - NEUTRAL for group in optimizer.state_dict()["param_groups"]]
        theirs = [group.keys() - NEUTRAL for group in state["param_groups"]]
        if len(mine) != len(theirs):
            raise ConfigError(f"{place}: its optimiser has {len(theirs)} groups of parameters, the run's {len(mine)}")
        if mine != theirs:
            odd = ", ".join(sorted(mine[0] ^ theirs[0]))
            raise ConfigError(f"{place}: is of another optimiser than {name}: only one of them has {odd}")
        if name_of := _missing_for_a_step(optimizer, state):
            raise ConfigError(f"{place}: its optimiser kept no {name_of}, which {name} needs with these options")


def _missing_for_a_step(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> str | None:
    """Try a step from the state; return the name of what it lacks. The parameters stay as they are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in parameters]
    optimizer.load_state_dict(state)
    restore(optimizer)
    try:
        for p in parameters:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    except KeyError as error:
        return str(error.args[0])
    finally:
        with torch.no_grad():
            for p, value in zip(parameters, before, strict=True):
                p.copy_(value)
                p.grad = None
    return None


class ConfigWins(pl.Callback):
    """Restores the options that callbacks were made with, after a checkpoint has been loaded into them."""

    def __init__(self, callbacks: Iterable[pl.Callback]):
        self.given = [(callback, _options(callback)) for callback in callbacks]

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        for callback, options in self.given:
            vars(callback).update(options)


def _options(callback: pl.Callback) -> dict[str, Any]:
    """Return the plain values that a callback keeps under the names of its arguments."""
    names = signature(type(callback)).parameters
    plain = bool | int | float | str | None
    return {name: value for name, value in vars(callback).items() if name in names and isinstance(value, plain)}
