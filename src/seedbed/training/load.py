"""Load a trained network from the files of its run, even a stranger's.

Only tensors and plain values are unpickled, and only what `allowed_targets` lets a config name is called.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from seedbed.allowed_targets import check_targets
from seedbed.allowed_values import check
from seedbed.errors import ConfigError
from seedbed.formats import MANIFEST
from seedbed.losses import Loss
from seedbed.moved import with_current_targets
from seedbed.tables import show
from seedbed.training.build import build_data

CONFIG = Path(".hydra", "config.yaml")
MAX_CONFIG = 1_000_000  # characters
DIGITS = ("seedbed.data.idx.mnist", "seedbed.data.mnist_sample.mnist_sample")


@dataclass(frozen=True)
class Facts:
    """The properties of the training data that a network depends on.

    shape: of one input. classes[k]: name of class k; None where the targets are numbers. The network sees
    pixels / divisor − shift.
    """

    shape: tuple[int, ...]
    classes: list[str] | None
    divisor: Tensor | float
    shift: Tensor | float


@dataclass(frozen=True)
class Loaded:
    """A network in evaluation mode, on the CPU, in float32, with what its run left beside it.

    config: with every interpolation resolved. metrics: of metrics.json, {} where the run has not ended.
    """

    net: nn.Module
    loss: Loss
    config: dict[str, Any]
    metrics: dict[str, Any]
    folder: Path
    checkpoint: Path
    facts: Facts

    @property
    def name(self) -> str:
        """The model in the words of its config: `mlp hidden=[128,64] activation=relu`."""
        model = self.config["model"]
        given = [
            f"{key}={show(value)}" for key, value in model.items() if not key.startswith("_") and value not in (None, 0)
        ]
        return " ".join([model["_target_"].rpartition(".")[2], *given])

    @property
    def knows_digits(self) -> bool:
        """True if the network was trained on pictures made as MNIST's were."""
        source = self.config["data"].get("source")
        return isinstance(source, dict) and source.get("_target_") in DIGITS

    def require_classes(self) -> list[str]:
        """Return the classes' names. Raises ConfigError for a network that tells none apart."""
        if not self.facts.classes or hasattr(self.net, "generator"):
            raise ConfigError(f"{self.folder}: {self.name} tells no classes apart")
        return self.facts.classes

    def require_pictures(self) -> None:
        """Raise ConfigError for a network that diverged or does not tell classes of grey or RGB pictures apart."""
        self.require_classes()
        if len(self.facts.shape) != 3 or self.facts.shape[0] not in (1, 3):
            raise ConfigError(f"{self.folder}: {self.name} takes no pictures, but {list(self.facts.shape)} numbers")
        if not all(value.isfinite().all() for value in self.net.state_dict().values()):
            raise ConfigError(f"{self.checkpoint}: has weights that are nan or inf: the run diverged")

    def convert(self, pixels: Tensor) -> Tensor:
        """Convert pixels 0–255 [N, C, H, W] to what the network sees."""
        return pixels.float() / self.facts.divisor - self.facts.shift

    @torch.no_grad()
    def probabilities(self, pixels: Tensor) -> Tensor:
        """Return [N, classes] for pixels 0–255 [N, C, H, W]."""
        return self.loss.probabilities(self.net(self.convert(pixels)).float())


def load(run: str | Path, which: str = "best", allow: Sequence[str] = ()) -> Loaded:
    """Return the network of a run's folder with its `best` or `last` weights, or that of a checkpoint.

    allow: packages whose parts its config may name besides those of `allowed_targets`.
    Raises ConfigError, in one line, for a path that is no run or checkpoint, a damaged file, or a part not allowed.
    """
    folder, checkpoint = _find(Path(run), which)
    config = read_config(folder / CONFIG, allow)
    content = read_checkpoint(checkpoint)
    weights = _weights(content["state_dict"], checkpoint)
    facts = _facts(content, config, checkpoint)
    with one_line(f"{folder}: loss: "):
        loss = instantiate(config["loss"], _convert_="all")
        outputs = loss.num_outputs(facts.classes and len(facts.classes))
    with one_line(f"{folder}: model: "):
        # the weights come from the checkpoint, not from timm's hub
        model = {key: value for key, value in config["model"].items() if key != "pretrained"}
        make = instantiate(model, _partial_=True, _convert_="all")
        net = _filled(lambda: loss.finish(make(facts.shape, outputs)), weights, checkpoint)
    return Loaded(net.eval(), loss, config, _metrics(folder), folder, checkpoint, facts)


@contextmanager
def one_line(place: str) -> Iterator[None]:
    """Turn whatever goes wrong with somebody else's file into a ConfigError of one line."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) and error.__cause__ else error
        said = next(iter(str(cause).splitlines()), "")
        raise ConfigError(f"{place}{said or type(cause).__name__}") from error


def _find(run: Path, which: str) -> tuple[Path, Path]:
    """Return the folder of the run and the checkpoint."""
    if which not in ("best", "last"):
        raise ConfigError(f"which={which}: must be one of best, last")
    if run.is_file():
        near = [folder for folder in run.absolute().parents[:2] if (folder / CONFIG).is_file()]
        if not near:
            raise ConfigError(f"{run}: its run's {CONFIG} is neither beside it nor in the folder above")
        return near[0], run
    if not run.is_dir():
        raise ConfigError(f"{run}: there is no such run or checkpoint")
    if (run / MANIFEST).is_file():
        raise ConfigError(f"{run}: is a sweep; name the folder of one of its jobs")
    if not (run / CONFIG).is_file():
        raise ConfigError(f"{run}: is no run: it has no {CONFIG}")
    checkpoint = run / "checkpoints" / f"{which}.ckpt"
    if not checkpoint.is_file():
        others = ", ".join(sorted(file.stem for file in checkpoint.parent.glob("*.ckpt")))
        only = f", only the weights called {others}" if others else ""
        raise ConfigError(f"{run}: the run has left no {checkpoint.relative_to(run)}{only}")
    return run, checkpoint


def read_config(path: Path, allow: Sequence[str] = ()) -> dict[str, Any]:
    """Return a run's config as plain dicts, with today's targets, each of them allowed. Raises ConfigError."""
    with one_line(f"{path}: "):
        text = path.read_text(encoding="utf-8")
        # Hydra writes no aliases; with them a few lines can stand for gigabytes
        if len(text) > MAX_CONFIG or any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise ValueError("is not as Hydra writes it")
        config = with_current_targets(OmegaConf.to_container(OmegaConf.create(text), resolve=True))
        for group in ("data", "model", "loss"):
            if not isinstance(config.get(group), dict) or "_target_" not in config[group]:
                raise ValueError(f"is not the config of a run: it has no {group}")
        check_targets(config, allow)
        check({"model": config["model"], "loss": config["loss"]})
        return config


def read_checkpoint(path: Path, place: str | None = None) -> dict[str, Any]:
    """Return the content of a checkpoint: tensors and plain values, nothing else is unpickled.

    Raises ConfigError in one line, which begins with `place` (else the path).
    """
    place = place or str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            # torch writes no compressed records; one can become a thousand times as large as the file
            if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
                raise ValueError("its records are compressed")
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
            raise ValueError("it has no state_dict")
        return content
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"what it holds besides tensors and plain values ({named[1]})" if named else "what it holds"
        raise ConfigError(f"{place}: {what} is not unpickled, for that could run a stranger's code") from error
    except Exception as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"{place}: is damaged or no checkpoint: {said}") from error


def _weights(state: dict[str, Any], checkpoint: Path) -> dict[str, Tensor]:
    """Return the network's part of a module's state."""
    weights = {str(name).removeprefix("net."): value for name, value in state.items() if str(name).startswith("net.")}
    for name, value in weights.items():
        # an expanded view can have more elements than the file has bytes
        if not isinstance(value, Tensor) or value.numel() * value.element_size() > checkpoint.stat().st_size:
            raise ConfigError(f"{checkpoint}: is damaged: its {name} is no weight")
    return weights


def _facts(content: dict[str, Any], config: dict[str, Any], checkpoint: Path) -> Facts:
    """Return the facts that the checkpoint holds; if an earlier version wrote none, take them from the data."""
    kept = content.get("DataModule")
    if kept is None:
        data = build_data(config)
        return Facts(data.splits.shape, data.splits.classes, **data.conversion)
    with one_line(f"{checkpoint}: the data's shape, classes or scale: "):
        classes = kept["classes"] and [str(name) for name in kept["classes"]]
        facts = Facts(tuple(map(int, kept["shape"])), classes, kept["divisor"], kept["shift"])
        scales = [torch.as_tensor(scale).shape for scale in (facts.divisor, facts.shift)]
        if min(facts.shape) < 1 or torch.broadcast_shapes(facts.shape, *scales) != facts.shape:
            raise ValueError(f"the shape {facts.shape} is empty or does not match the scale")
        return facts


def require_same(net: nn.Module, weights: dict[str, Tensor], place: str) -> None:
    """Raise ConfigError unless a network has weights of these names and shapes."""
    mine, theirs = ({name: [*v.shape] for name, v in state.items()} for state in (net.state_dict(), weights))
    for name in [*mine, *theirs]:
        if mine.get(name) != theirs.get(name):
            here, there = (f"has {s[name]}" if name in s else "has none" for s in (mine, theirs))
            raise ConfigError(f"{place}: is of another network: for {name} the run's model {here}, the file {there}")


def _filled(make: Callable[[], nn.Module], weights: dict[str, Tensor], checkpoint: Path) -> nn.Module:
    """Return the network with these weights. Raises ConfigError if they are those of another network."""
    with torch.random.fork_rng(devices=[]):
        # first without memory, since a config can ask for more than there is; models that compute with values fail here
        with suppress(NotImplementedError, RuntimeError), torch.device("meta"):
            require_same(make(), weights, str(checkpoint))
        require_same(net := make(), weights, str(checkpoint))
    net.load_state_dict(weights)
    return net


def _metrics(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.json"
    with one_line(f"{path}: "):
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
