"""The gain of Kaiming's init: what a = 0, 1 and √5 do to one layer and to the layers of a network.

Source: fast.ai part 2 (2019), "Why sqrt 5": PyTorch's default is kaiming_uniform with a = √5.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from seedbed.errors import ConfigError
from seedbed.inits.schemes import fans
from seedbed.studies.findings import Findings, canvas
from seedbed.studies.why_sqrt5 import measure

INITS = ("kaiming_normal", "kaiming_uniform")


def one_layer(x: Tensor, channels: int, kernel: int, init: str, a: float, seed: int) -> dict[str, Tensor]:
    """Return weight, output and output after leaky_relu(a) of one convolution under `init` with this a, bias 0."""
    torch.manual_seed(seed)
    layer = nn.Conv2d(x.shape[1], channels, kernel)
    getattr(nn.init, f"{init}_")(layer.weight, a=a)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        output = layer(x)
    return {"weight": layer.weight.detach(), "output": output, "activation": leaky_relu(output, a)}


def gains(lab, slopes: Sequence[float], channels: int, kernel: int, seeds: int, overrides: Sequence[str]) -> Findings:
    """Compare each `a` (`slopes`): one convolution [channels, C, kernel, kernel], then every layer of a network.

    Raises ConfigError for data without images of that size.
    """
    data = lab.data(overrides)
    x, labels = data.sample, data.splits.train[1]
    if x.dim() != 4 or min(x.shape[2:]) < kernel:
        raise ConfigError(
            f"study.kernel={kernel}: must fit into the data's images, and their shape is {data.splits.shape}"
        )
    y = labels[:: max(1, len(labels) // len(x))][: len(x)]
    lab.check(*([*overrides, f"init={init}"] for init in INITS))
    rows, tensors, depth = [], {}, {}
    for init in INITS:
        for a in slopes:
            runs = [one_layer(x, channels, kernel, init, a, seed) for seed in range(seeds)]
            fan_in, fan_out = fans(runs[0]["weight"])
            gain = nn.init.calculate_gain("leaky_relu", a)
            std = [fmean(run[name].std().item() for run in runs) for name in ("weight", "output", "activation")]
            mean = fmean(run["activation"].mean().item() for run in runs)
            rows.append([init, _name(a), gain, fan_in, fan_out, gain / fan_in**0.5, *std, mean])
            tensors[init, a] = {name: torch.cat([run[name].flatten() for run in runs]) for name in ("weight", "output")}
            nets = [lab.module([*overrides, f"init={init}", f"init.a={a}"], seed)[0] for seed in range(seeds)]
            stds = zip(*([row["std"] for row in measure(m.net, m.loss, x, y)] for m in nets), strict=True)
            depth[init, a] = [fmean(layer) for layer in stds]
    shape = f"{channels}×{x.shape[1]}×{kernel}×{kernel}"
    header = ["init", "a", "gain", "fan_in", "fan_out", "gain/√fan_in", "std weight", "std output"]
    return Findings(
        f"gain = √(2/(1+a²)). One layer {shape} on {len(x)} images of mean {x.mean():.3f} and std {x.std():.3f}; "
        f"activation:\nleaky_relu(output, a); means over {seeds} seeds.",
        [*header, "std activation", "mean activation"],
        rows,
        {"gains": _picture(slopes, tensors, depth, shape)},
        {f"std of layer/{init} a {_name(a)}": dict(enumerate(stds, start=1)) for (init, a), stds in depth.items()},
        [
            {"init": init, "a": a, "layer": number, "std of its output": std}
            for (init, a), stds in depth.items()
            for number, std in enumerate(stds, start=1)
        ],
    )


def _name(a: float) -> str:
    return "√5" if abs(a - 5**0.5) < 1e-6 else f"{a:g}"


def _picture(slopes: Sequence[float], tensors: dict, depth: dict[tuple[str, float], list[float]], shape: str):
    fig, (left, middle, right) = canvas(15, 4.5, 1, 3)
    for n, a in enumerate(slopes):
        for (init, slope), stds in depth.items():
            if slope == a:
                style = {"color": f"C{n}", "linestyle": "-" if init == INITS[0] else "--"}
                label = f"{init}, a = {_name(a)}"
                left.hist(tensors[init, a]["weight"].numpy(), 30, histtype="step", density=True, **style)
                middle.hist(tensors[init, a]["output"][::17].numpy(), 100, histtype="step", density=True, **style)
                right.plot(range(1, len(stds) + 1), stds, marker="o", label=label, **style)
    left.set(xlabel="weight", ylabel="density", title=f"weights of one layer {shape}")
    middle.set(xlabel="output", ylabel="density (log)", title="its outputs", yscale="log")
    right.set(xlabel="layer", ylabel="std of its output (log)", title="the layers of the network", yscale="log")
    right.axhline(1, color="black", linewidth=0.8, linestyle=":")
    right.set_xticks(range(1, len(next(iter(depth.values()))) + 1))
    for ax in (left, middle, right):
        ax.grid(alpha=0.3)
    fig.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=len(slopes))
    fig.suptitle("Kaiming's init with each a: the gain sets the scale of weights and outputs")
    return fig
