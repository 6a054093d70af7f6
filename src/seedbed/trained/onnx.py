"""A trained network as an ONNX file that answers like the network."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.errors import ConfigError
from seedbed.files import replacing
from seedbed.training.build import build_data
from seedbed.training.load import Loaded

NEEDED = ("onnx", "onnxscript", "onnxruntime")
IMAGES = 100  # on which the file is compared with the network
TOLERANCE = 1e-4  # of the largest output, or of 1


class _WithProbabilities(nn.Module):
    """A network with the probabilities of its classes as a second output."""

    def __init__(self, net: nn.Module, loss: nn.Module):
        super().__init__()
        self.net, self.loss = net, loss

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        output = self.net(x)
        return output, self.loss.probabilities(output)


def require_packages() -> None:
    """Raise ConfigError where a package for ONNX is missing."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ConfigError(f'ONNX needs {" and ".join(missing)}: pip install "seedbed[onnx]"')


def export_onnx(loaded: Loaded, path: Path) -> tuple[float, str]:
    """Write the network to an ONNX file. Return its largest difference from the network, and the inputs tried.

    Input `x` [batch, …]: pixels as the network sees them, (0–255) / divisor − shift. Outputs: `output` and, where there
    are classes, `probabilities`. The file's metadata has divisor, shift and the classes' names.
    Raises ConfigError where the network cannot be exported, or the file answers differently.
    """
    images, kind = sample(loaded, IMAGES)
    net, names = loaded.net, ["output"]
    if loaded.facts.classes:
        net, names = _WithProbabilities(loaded.net, loaded.loss).eval(), ["output", "probabilities"]
    program = _exported(loaded, net, images[:2], names)
    program.model.metadata_props.update(_metadata(loaded))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        program.save(temporary, external_data=False)
        with torch.no_grad():
            wanted = net(images)
        apart = _difference(temporary, images, wanted if isinstance(wanted, tuple) else (wanted,))
        if not apart <= TOLERANCE:
            raise ConfigError(
                f"{loaded.folder}: {loaded.name} as ONNX answers differently, by {apart:.2g}: not written"
            )
    return apart, kind


def sample(loaded: Loaded, count: int) -> tuple[Tensor, str]:
    """Return inputs as the network sees them, and their kind: validation samples, or noise if there are no data."""
    try:
        data = build_data(loaded.config)
    except ConfigError:
        noise = torch.randint(256, (count, *loaded.facts.shape), generator=torch.Generator().manual_seed(0))
        return loaded.convert(noise), "inputs of noise"
    x = data.splits.valid[0]
    return loaded.convert(x[:: max(1, len(x) // count)][:count]), "validation samples"


def _exported(loaded: Loaded, net: nn.Module, x: Tensor, names: list[str]) -> Any:
    try:
        # the exporter prints its stages and a long report where it fails
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            shapes = ({0: torch.export.Dim("batch")},)
            return torch.onnx.export(
                net, (x,), verbose=False, input_names=["x"], output_names=names, dynamic_shapes=shapes
            )
    except Exception as error:
        reason = next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)
        raise ConfigError(f"{loaded.folder}: {loaded.name} cannot be exported to ONNX: {reason}") from error


def _metadata(loaded: Loaded) -> dict[str, str]:
    facts = loaded.facts
    divisor, shift = (v.flatten().tolist() if isinstance(v, Tensor) else v for v in (facts.divisor, facts.shift))
    known = {"model": loaded.name, "classes": facts.classes, "divisor": divisor, "shift": shift}
    return {f"seedbed.{name}": json.dumps(value, ensure_ascii=False) for name, value in known.items()}


def _difference(path: str, images: Tensor, wanted: tuple[Tensor, ...]) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": images.numpy()})
    differences = [
        (torch.from_numpy(a) - b).abs().max() / b.abs().max().clamp_min(1) for a, b in zip(found, wanted, strict=True)
    ]
    return max(float(d) for d in differences)
