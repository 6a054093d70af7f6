"""A trained network as one HTML file, in which one draws and sees its answers, in any browser, without a server."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import torch
from torch import Tensor, nn

from seedbed.errors import ConfigError
from seedbed.models.linear import LinearLayer
from seedbed.models.mlp import ACTIVATIONS
from seedbed.training.load import Loaded

PAGE = files("seedbed.trained") / "draw.html"
# module → its name in the page
NAMES = {kind: name for name, kind in ACTIVATIONS.items()} | {nn.LogSoftmax: "log_softmax"}
NOTHING = (nn.Flatten, nn.Dropout, nn.AlphaDropout, nn.Identity)  # in evaluation mode, on pixels in a row


def as_page(loaded: Loaded) -> str:
    """Return the page. Raises ConfigError for other networks than linear ones and MLPs over square grey pictures."""
    loaded.require_pictures()
    channels, height, width = loaded.facts.shape
    if channels != 1 or height != width:
        raise ConfigError(f"{loaded.folder}: --html takes square grey pictures, not {channels}×{height}×{width}")
    layers, weights = _layers(loaded)
    divisor, shift = (float(torch.as_tensor(scale).squeeze()) for scale in (loaded.facts.divisor, loaded.facts.shift))
    network = {
        "model": loaded.name,
        "classes": loaded.facts.classes,
        "digits": loaded.knows_digits,
        "side": height,
        "divisor": divisor,
        "shift": shift,
        "layers": layers,
        "reading": _reading(loaded),
        "weights": base64.b64encode(torch.cat(weights).float().numpy().astype("<f4").tobytes()).decode(),
    }
    # no name of a class can end the script element
    text = json.dumps(network, ensure_ascii=False).replace("<", "\\u003c")
    return PAGE.read_text(encoding="utf-8").replace("__NETWORK__", text)


def _leaves(net: nn.Module) -> Iterator[nn.Module]:
    for child in net if isinstance(net, nn.Sequential) else [net]:
        yield from _leaves(child) if isinstance(child, nn.Sequential) else [child]


def _layers(loaded: Loaded) -> tuple[list[dict[str, Any]], list[Tensor]]:
    """Return each layer's sizes and activation, and all weights and biases in a row, in the page's order."""
    layers: list[dict[str, Any]] = []
    weights: list[Tensor] = []
    for module in _leaves(loaded.net):
        kind = type(module)
        if kind in (nn.Linear, LinearLayer):
            outputs, inputs = module.weight.shape
            layers.append({"inputs": inputs, "outputs": outputs, "activation": "identity"})
            bias = torch.zeros(outputs) if module.bias is None else module.bias
            weights += [module.weight.detach().flatten(), bias.detach()]
        elif kind in NAMES and layers and layers[-1]["activation"] == "identity":
            layers[-1]["activation"] = NAMES[kind]
        elif kind not in NOTHING:
            raise ConfigError(
                f"{loaded.folder}: --html takes linear models and MLPs, and {loaded.name} has a {kind.__name__}"
            )
    return layers, weights


def _reading(loaded: Loaded) -> str:
    """Return the page's name for how the loss reads probabilities from outputs, found by trying."""
    readings = {"softmax": lambda x: x.softmax(1), "sigmoid": torch.sigmoid, "clamp": lambda x: x.clamp(0, 1)}
    output = loaded.net(torch.rand(64, *loaded.facts.shape, generator=torch.Generator().manual_seed(0))).detach()
    for name, read in readings.items():
        p = read(output)
        p = torch.cat([1 - p, p], 1) if name != "softmax" and p.shape[1] == 1 else p
        if p.shape[1] == len(loaded.facts.classes) and torch.allclose(p, loaded.loss.probabilities(output), atol=1e-6):
            return name
    raise ConfigError(f"{loaded.folder}: --html does not know how its loss reads probabilities")
