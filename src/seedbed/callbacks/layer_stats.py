"""Record the activations and weights of a network's layers, and the gradients by them, every few training steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from seedbed.inits.schemes import layers
from seedbed.pictures.layer_series import GRADIENT_NEAR_ZERO, NEAR_ZERO, Series, Values

BINS = 100
SAMPLE = 2**16  # values of a layer and step that are looked at; of more, an even selection
OCTAVES = 25  # of |gradient| that a histogram tells apart, from the largest down to 3e-8 of it
BIN = 2 * OCTAVES * 2**23 // BINS  # half an octave in units of float32's last place; an octave has 2²³
SMALLEST = 1e-30  # of largest gradients: its last bin has to be a normal float32
COLUMNS = ("mean", "std", "near_zero", "low", "high")

Divisor = Callable[[int], int]
Edges = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (low [T], high [T]) → [T, BINS + 1]


def watched(net: nn.Module) -> dict[str, nn.Module]:
    """Return name → layer: every weight matrix, kernel and activation; no normalisation, pooling or softmax."""
    weighted = set(layers(net))

    def is_watched(module: nn.Module) -> bool:
        activates = type(module).__module__ == nn.ReLU.__module__ and not isinstance(module, nn.Softmax | nn.LogSoftmax)
        return module in weighted or (activates and not list(module.children()))

    return {f"{name}.{type(m).__name__}".lstrip("."): m for name, m in net.named_modules() if is_watched(m)}


class LayerStats:
    """Listens to `net` and records the training steps divisible by `every`; the next forward pass is step `step`.

    A step is a forward pass, so a mini-batch. Between recorded steps the only cost is one hook of `net`. Records stay
    on the device until `series` is called. Training gives the same bits as without. A layer that is called twice in a
    forward pass is recorded at its first call. divisor: step → number by which its loss is divided before the backward
    pass; the gradients recorded are those of the loss itself.
    """

    def __init__(self, net: nn.Module, every: int, step: int = 0, divisor: Divisor = lambda step: 1):
        self.layers, self.every, self.step, self.divisor = watched(net), every, step, divisor
        self._weights = {name: layer.weight for name, layer in self.layers.items() if layer in set(layers(net))}
        # layer → step → row of a summary
        self._rows: dict[str, dict[str, dict[int, Tensor]]] = {
            kind: {name: {} for name in self.layers} for kind in KINDS
        }
        self._handles: dict[str, torch.utils.hooks.RemovableHandle] = {}
        self._weight_handles: list[torch.utils.hooks.RemovableHandle] = []
        self._counter = net.register_forward_pre_hook(self._before_forward)

    def remove(self) -> None:
        """Stop listening."""
        self._counter.remove()
        self._detach()

    def _detach(self) -> None:
        for handle in (*self._handles.values(), *self._weight_handles):
            handle.remove()
        self._handles.clear()
        self._weight_handles.clear()

    def _before_forward(self, net: nn.Module, args: tuple) -> None:
        if net.training and torch.is_grad_enabled():
            self._detach()  # from weights, and from layers that the last forward pass did not reach
            if self.step % self.every == 0:
                for name, layer in self.layers.items():
                    self._handles[name] = layer.register_forward_hook(partial(self._after_layer, name, self.step))
            self.step += 1

    def _after_layer(self, name: str, step: int, layer: nn.Module, args: tuple, output: Tensor) -> None:
        self._handles.pop(name).remove()
        self._rows["activations"][name][step] = summary(output.detach())
        if output.requires_grad:
            output.register_hook(partial(self._on_gradient, "gradients", name, step))
        if (weight := self._weights.get(name)) is not None:
            self._rows["weights"][name][step] = summary(weight.detach())
            if weight.requires_grad:
                hook = partial(self._on_gradient, "weight_gradients", name, step)
                self._weight_handles.append(weight.register_hook(hook))

    def _on_gradient(self, kind: str, name: str, step: int, gradient: Tensor) -> None:
        gradient, divisor = sample(gradient.detach()), self.divisor(step)
        self._rows[kind][name][step] = gradient_summary(gradient if divisor == 1 else gradient * divisor)

    def series(self) -> dict[str, Series]:
        """Return layer → what was recorded since the last call; layers without a record are left out."""
        recorded = {}
        for name in self.layers:
            rows = {kind: by_name[name] for kind, by_name in self._rows.items()}
            if steps := list(rows["activations"]):
                kinds = KINDS if name in self._weights else dict.fromkeys(("activations", "gradients"))
                values = {kind: _values(rows[kind], steps, KINDS[kind]) for kind in kinds}
                recorded[name] = Series(np.array(steps), **dict.fromkeys(KINDS) | values)
            for by_name in self._rows.values():
                by_name[name] = {}
        return recorded


def _values(rows: dict[int, Tensor], steps: Sequence[int], edges: Edges) -> Values:
    missing = torch.full_like(next(iter(rows.values()), torch.empty(len(COLUMNS) + BINS)), math.nan)
    return to_values(torch.stack([rows.get(step, missing) for step in steps]), edges)


def to_values(rows: Tensor, edges: Edges) -> Values:
    """Convert the summaries of T steps, [T, len(COLUMNS) + BINS]."""
    rows = rows.cpu().double().numpy()
    columns = dict(zip(COLUMNS, rows.T, strict=False))
    finite = np.isfinite(columns["low"]) & np.isfinite(columns["high"])
    columns["near_zero"] = np.where(finite, columns["near_zero"], np.nan)
    low, high = (np.where(finite, columns[c], np.nan) for c in ("low", "high"))
    return Values(**columns, counts=rows[:, len(COLUMNS) :], edges=edges(low, high))


def sample(x: Tensor) -> Tensor:
    """Return all values of x, or every k-th as they lie in memory, float32 [n] with n from SAMPLE to twice as many."""
    x = x.permute(*sorted(range(x.dim()), key=x.stride, reverse=True)).flatten()  # channels last: no copy
    k = max(1, len(x) // SAMPLE)
    while math.gcd(k, len(x)) > 1:  # a common factor would select some channels or pixels only
        k += 1
    return x[::k].float()


def mean_and_std(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and std (without Bessel's correction) of all values, four times as fast as torch.std_mean."""
    mean = x.mean()
    return mean, (x - mean).square_().mean().sqrt_()


def summary(x: Tensor) -> Tensor:
    """Return COLUMNS of a `sample` of x, then the counts of BINS equal bins from low to high, as one float32 row.

    Nothing waits for the device.
    """
    x = sample(x)
    mean, std = mean_and_std(x)
    low, high = x.aminmax()
    near_zero = torch.count_nonzero(x.abs() < NEAR_ZERO) / x.numel()
    # a constant falls into the first bin; what is not finite into none
    scaled = (x - low).div_((high - low).clamp_min(torch.finfo(x.dtype).tiny))
    return torch.cat([torch.stack([mean, std, near_zero, low, high]), scaled.histc(BINS, 0.0, 1.0)])


def linear_edges(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the edges of `summary`'s bins, [T, BINS + 1]."""
    return np.linspace(low, high, BINS + 1, axis=1)


def gradient_summary(x: Tensor) -> Tensor:
    """Return a row as `summary` does, for values that span decades: the bins widen with |x|, half of them a sign each.

    Near zero is relative here: at most GRADIENT_NEAR_ZERO of the largest |x|; exact zeros always are.
    A bin is half an octave: |x| from 1 to 1.5, to 2, to 3, to 4 and so on, down from the largest. The bits of a float32
    read as an integer grow by 2²³ an octave, so they are its logarithm but for straight lines between powers of two, at
    a fraction of the logarithm's cost on a CPU. Values below the last octave count as zero.
    """
    x = sample(x)
    mean, std = mean_and_std(x)
    low, high = x.aminmax()
    largest, size = torch.maximum(-low, high), x.abs()
    near_zero = torch.count_nonzero(size <= largest * GRADIENT_NEAR_ZERO) / x.numel()
    least = largest.clamp_min(SMALLEST).view(torch.int32) - BINS // 2 * BIN
    # distance from the least in units of float32's last place, with the sign of x: 0 at the least
    above = size.view(torch.int32).sub_(least).clamp_min_(0).float().copysign_(x)
    counts = above.histc(BINS, -BINS // 2 * BIN, BINS // 2 * BIN)
    return torch.cat([torch.stack([mean, std, near_zero, low, high]), counts])


def octave_edges(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the edges of `gradient_summary`'s bins, [T, BINS + 1]; the middle one is 0."""
    largest = np.maximum(np.maximum(-low, high), SMALLEST).astype(np.float32)
    bits = largest.view(np.int32)[:, None] - BIN * np.arange(BINS // 2, -1, -1, dtype=np.int32)
    sizes = np.where(np.isnan(largest)[:, None], np.nan, bits.view(np.float32).astype(np.float64))
    sizes[:, 0] *= 0  # NaN stays NaN
    return np.concatenate([-sizes[:, :0:-1], sizes], 1)


# fields of Series → edges of their bins
KINDS: dict[str, Edges] = {
    "activations": linear_edges,
    "gradients": octave_edges,
    "weights": linear_edges,
    "weight_gradients": octave_edges,
}
