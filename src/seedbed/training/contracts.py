"""Check that a part of the user's own keeps the contract of its kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from seedbed.data.splits import Splits
from seedbed.errors import ConfigError
from seedbed.losses import Loss
from seedbed.metrics import LR, TRAIN_LOSS, VAL_ACCURACY, VAL_LOSS
from seedbed.schedules import Schedule
from seedbed.training.supervised import Supervised

if TYPE_CHECKING:
    from seedbed.training.datamodule import DataModule

# kind → how such a part is called, and the type that it returns
CONTRACTS: dict[str, tuple[str, type]] = {
    "data": ("data.source is f(…) → seedbed.data.splits.Splits", Splits),
    "model": ("a model is f(in_shape, num_outputs, …) → nn.Module", nn.Module),
    "loss": ("a loss is a seedbed.losses.Loss, called with (output [B, K], target [B])", nn.Module),
    "init": ("an init is f(net, x, …) → None, which changes the weights in place", type(None)),
    "optim": ("an optimiser is f(params, lr, …) → torch.optim.Optimizer", torch.optim.Optimizer),
    "schedule": ("a schedule is f(…) → seedbed.schedules.Schedule", Schedule),
    "callbacks": ("a callback is a lightning.pytorch.Callback", pl.Callback),
    "logger": ("a logger is a lightning.pytorch.loggers.Logger", Logger),
    "module": ("a module is f(net, loss, optim, schedule) → Supervised", Supervised),
}
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def is_foreign(node: Mapping[str, Any]) -> bool:
    """Return whether a config's node names a part that is not Seedbed's."""
    return not str(node.get("_target_", "")).startswith("seedbed.")


def wanted(kind: str, error: BaseException) -> str:
    """Return the contract for an error about the number of arguments, as the end of a message."""
    return f"; {CONTRACTS[kind][0]}" if kind in CONTRACTS and "positional argument" in str(error) else ""


def check_is(kind: str, value: Any) -> Any:
    """Return the value. Raises ConfigError if it breaks the contract of its kind."""
    contract, expected = CONTRACTS[kind]
    if not isinstance(value, expected):
        raise ConfigError(f"{contract}; this one gives {_shown(value)}")
    if kind == "loss":
        for name in ("num_outputs", "predict", "finish"):
            if not callable(getattr(value, name, None)):
                raise ConfigError(f"{type(value).__name__} has no {name}(…); {contract}")
    return value


def check_outputs(loss: nn.Module, num_outputs: Any) -> int:
    """Return the number of outputs that a loss asks for. Raises ConfigError if that is no number."""
    if not isinstance(num_outputs, int) or num_outputs < 1:
        name = f"{type(loss).__name__}.num_outputs"
        raise ConfigError(f"{name} must return an integer ≥ 1, it returns {_shown(num_outputs)}")
    return num_outputs


def check_network(net: nn.Module, loss: Loss, x: Tensor, y: Tensor, num_outputs: int) -> None:
    """Try a network and its loss on a few samples; both stay as they are, and so does the random state.

    Raises ConfigError for outputs of another shape than the loss wants, or a loss that is no scalar.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            net = deepcopy(net)
        except (RuntimeError, TypeError):  # what cannot be copied is not tried
            return
        output = net.eval()(x)
        rows = [len(x), num_outputs]
        if not isinstance(output, Tensor) or [*output.shape] != rows:
            raise ConfigError(
                f"model: must return an output [B, {num_outputs}], as the loss and the data need: for {len(x)} inputs "
                f"a tensor {rows}; it returns {_shown(output)}"
            )
        value = loss(output, y)
        if not isinstance(value, Tensor) or value.shape or not value.is_floating_point():
            raise ConfigError(f"loss: must be a scalar tensor, the mean over the batch; it is {_shown(value)}")
        if not y.is_floating_point():
            predicted = loss.predict(output)
            if not isinstance(predicted, Tensor) or predicted.shape != y.shape:
                raise ConfigError(
                    f"loss: predict(output) must give a class for each row, {[*y.shape]}; it gives {_shown(predicted)}"
                )


def check_run(
    config: Mapping[str, Any], callbacks: Sequence[pl.Callback], module: Supervised, data: DataModule, world: int
) -> None:
    """Raise ConfigError for parts that do not go together in this run."""
    if world > 1 and not any(True for _ in module.parameters()):
        raise ConfigError(f"trainer.devices={world}: the model has nothing to train by gradient; use trainer.devices=1")
    known = {TRAIN_LOSS, LR, VAL_LOSS} | ({VAL_ACCURACY} if data.num_classes else set())
    ours = not is_foreign(config["module"]) and type(module) is Supervised
    for name, node in config["callbacks"].items() if ours else ():
        monitor, strict = node.get("monitor"), node.get("strict", True)
        if isinstance(monitor, str) and strict and monitor not in known and not any(map(_is_own, callbacks)):
            raise ConfigError(
                f"callbacks.{name}.monitor={monitor}: this run has no such metric; it has {', '.join(sorted(known))}"
            )


def _is_own(callback: pl.Callback) -> bool:
    """Return whether a callback may log metrics of its own."""
    return not type(callback).__module__.startswith(("seedbed.", "lightning."))


def check_batch_norm(trainer: Mapping[str, Any], net: nn.Module, data: DataModule) -> None:
    """Raise ConfigError if a batch norm would get a batch with a single value per channel.

    trainer: the Trainer's options.
    """
    if not any(isinstance(layer, BATCH_NORMS) for layer in net.modules()):
        return
    world = trainer["devices"] if isinstance(trainer["devices"], int) else 1
    size, rest = data.batch_size, len(data.splits.train[1]) % (data.batch_size * world)
    is_cut = trainer.get("limit_train_batches") or trainer.get("overfit_batches") or trainer.get("fast_dev_run")
    # in the last batch some ranks have a sample less than others; a rank with no sample has no batch
    last = [] if is_cut or data.drop_last or not rest else [rest // world, -(-rest // world)]
    if 1 not in (size, *last):
        return
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            deepcopy(net).train()(data.sample[:1])
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ConfigError(
            f"data.batch_size={size}: a batch would have one sample, from which batch norm cannot compute a variance; "
            "choose another size or data.drop_last=true"
        ) from error


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {[*value.shape]} of {value.dtype}" if value.shape else f"a scalar of {value.dtype}"
    return repr(value) if isinstance(value, int | float | str | None) else f"an object of {type(value).__name__}"
