"""What the layers of a network give, and what gradients come back to them, looked at every few training steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from seedbed.inits.schemes import layers

BINS = 100
SAMPLE = 2**16  # values of a layer that are looked at, spread over all of a step
NEAR_ZERO = 0.05  # fastai's: a unit with |activation| below it is near zero
GRADIENT_NEAR_ZERO = 1e-3  # a gradient of at most this share of the largest |gradient| of its layer and step
OCTAVES = 25  # of |gradient| that a histogram tells apart, from the largest down to 3e-8 of it
BIN = 2 * OCTAVES * 2**23 // BINS  # a bin in units of float32's last place, of which an octave has 2²³: half an octave
SMALLEST = 1e-30  # of largest gradients: its last bin has to be a normal float32
COLUMNS = ("mean", "std", "near_zero", "low", "high")


@dataclass
class Values:
    """Of T steps, as arrays of float64: mean, std, near_zero (a share), low, high [T]; counts [T, BINS] between
    edges [T, BINS + 1]. A step with values that are not finite has no near_zero and no edges (nan), one of which
    nothing is known nan everywhere.
    """

    mean: np.ndarray
    std: np.ndarray
    near_zero: np.ndarray
    low: np.ndarray
    high: np.ndarray
    counts: np.ndarray
    edges: np.ndarray

    @classmethod
    def of(cls, rows: Tensor, edges: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Values:
        """From the summaries [T, len(COLUMNS) + BINS] of T steps."""
        rows = rows.cpu().double().numpy()
        columns = dict(zip(COLUMNS, rows.T, strict=False))
        finite = np.isfinite(columns["low"]) & np.isfinite(columns["high"])
        columns["near_zero"] = np.where(finite, columns["near_zero"], np.nan)
        low, high = (np.where(finite, columns[c], np.nan) for c in ("low", "high"))
        return cls(**columns, counts=rows[:, len(COLUMNS) :], edges=edges(low, high))


@dataclass
class Series:
    """One layer at the recorded steps [T] (int): its activations, and the gradients of the loss by them."""

    steps: np.ndarray
    activations: Values
    gradients: Values


def watched(net: nn.Module) -> dict[str, nn.Module]:
    """name → layer: what has a weight matrix or kernel, and the activations; not normalisation, pooling or softmax."""
    weighted = set(layers(net))

    def matters(module: nn.Module) -> bool:
        activates = type(module).__module__ == nn.ReLU.__module__ and not isinstance(module, nn.Softmax | nn.LogSoftmax)
        return module in weighted or (activates and not list(module.children()))

    named = {f"{name}.{type(m).__name__}".lstrip("."): m for name, m in net.named_modules() if matters(m)}
    return named


class LayerStats:
    """Listens to `net` from its next training forward on, which is step `step`; records steps divisible by `every`.

    A step is a forward, a mini-batch. Between recorded steps the only cost is one hook of `net`. What is recorded stays
    on the device until `series`. Training gives the same bits as without. A layer that is called twice in a forward is
    recorded at its first call. accumulate: what the loss is divided by before the way back; gradients are of the loss.
    """

    def __init__(self, net: nn.Module, every: int, step: int = 0, accumulate: int = 1):
        self.layers, self.every, self.step, self.accumulate = watched(net), every, step, accumulate
        self._activations: dict[str, list[tuple[int, Tensor]]] = {name: [] for name in self.layers}
        self._gradients: dict[str, dict[int, Tensor]] = {name: {} for name in self.layers}
        self._handles: dict[str, torch.utils.hooks.RemovableHandle] = {}
        self._counter = net.register_forward_pre_hook(self._before_forward)

    def remove(self) -> None:
        """Stop listening."""
        self._counter.remove()
        self._detach()

    def _detach(self) -> None:
        for handle in self._handles.values():
            handle.remove()
        self._handles.clear()

    def _before_forward(self, net: nn.Module, args: tuple) -> None:
        if net.training and torch.is_grad_enabled():
            self._detach()  # layers that the last forward did not reach
            if self.step % self.every == 0:
                for name, layer in self.layers.items():
                    self._handles[name] = layer.register_forward_hook(partial(self._after_layer, name, self.step))
            self.step += 1

    def _after_layer(self, name: str, step: int, layer: nn.Module, args: tuple, output: Tensor) -> None:
        self._handles.pop(name).remove()
        if output.requires_grad:
            output.register_hook(partial(self._on_gradient, name, step))
        self._activations[name].append((step, summary(output.detach())))

    def _on_gradient(self, name: str, step: int, gradient: Tensor) -> None:
        gradient = sample(gradient.detach())
        self._gradients[name][step] = gradient_summary(gradient if self.accumulate == 1 else gradient * self.accumulate)

    def series(self) -> dict[str, Series]:
        """Layer → all that was recorded since `series` was called last; layers without a record are left out."""
        found = {}
        for name, rows in self._activations.items():
            if rows:
                steps, forward = zip(*rows, strict=True)
                missing = torch.full_like(forward[0], math.nan)
                back = [self._gradients[name].get(step, missing) for step in steps]
                found[name] = Series(
                    np.array(steps),
                    Values.of(torch.stack(forward), linear_edges),
                    Values.of(torch.stack(back), octave_edges),
                )
            self._activations[name], self._gradients[name] = [], {}
        return found


def sample(x: Tensor) -> Tensor:
    """float32 [n]: all values of x, or of many every k-th as they lie in memory, SAMPLE to twice as many."""
    x = x.permute(*sorted(range(x.dim()), key=x.stride, reverse=True)).flatten()  # channels last: no copy
    k = max(1, len(x) // SAMPLE)
    while math.gcd(k, len(x)) > 1:  # else of some channels or pixels only
        k += 1
    return x[::k].float()


def mean_and_std(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of all values; std without Bessel's correction. Four times as fast as torch.std_mean on a CPU."""
    mean = x.mean()
    return mean, (x - mean).square_().mean().sqrt_()


def summary(x: Tensor) -> Tensor:
    """float32 [len(COLUMNS) + BINS]: COLUMNS, then counts of equal bins from low to high; no wait for the device.

    Of a `sample`, and so is `gradient_summary`.
    """
    x = sample(x)
    mean, std = mean_and_std(x)
    low, high = x.aminmax()
    near_zero = torch.count_nonzero(x.abs() < NEAR_ZERO) / x.numel()
    # a constant falls into the first bin; what is not finite into none
    scaled = (x - low).div_((high - low).clamp_min(torch.finfo(x.dtype).tiny))
    return torch.cat([torch.stack([mean, std, near_zero, low, high]), scaled.histc(BINS, 0.0, 1.0)])


def linear_edges(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """[T, BINS + 1]: of `summary`'s bins."""
    return np.linspace(low, high, BINS + 1, axis=1)


def gradient_summary(x: Tensor) -> Tensor:
    """As `summary`, for values that span decades: a value is near zero if it is at most GRADIENT_NEAR_ZERO of the
    largest |x| (exact zeros always are), and the bins widen with |x|, half of them for either sign.

    A bin is half an octave: |x| from 1 to 1.5, to 2, to 3, to 4 and so on, down from the largest. A float32's bits read
    as an integer grow by 2²³ an octave, so they are its logarithm but for straight lines between powers of two, at a
    fraction of what the logarithm costs on a CPU. What is below the last octave counts as zero.
    """
    x = sample(x)
    mean, std = mean_and_std(x)
    low, high = x.aminmax()
    largest, size = torch.maximum(-low, high), x.abs()
    near_zero = torch.count_nonzero(size <= largest * GRADIENT_NEAR_ZERO) / x.numel()
    least = largest.clamp_min(SMALLEST).view(torch.int32) - BINS // 2 * BIN
    above = size.view(torch.int32).sub_(least).clamp_min_(0).float().copysign_(x)  # 0 at the least, both signs
    counts = above.histc(BINS, -BINS // 2 * BIN, BINS // 2 * BIN)
    return torch.cat([torch.stack([mean, std, near_zero, low, high]), counts])


def octave_edges(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """[T, BINS + 1]: of `gradient_summary`'s bins; the middle one is 0."""
    largest = np.maximum(np.maximum(-low, high), SMALLEST).astype(np.float32)
    bits = largest.view(np.int32)[:, None] - BIN * np.arange(BINS // 2, -1, -1, dtype=np.int32)
    sizes = np.where(np.isnan(largest)[:, None], np.nan, bits.view(np.float32).astype(np.float64))
    sizes[:, 0] *= 0  # of nan: nan
    return np.concatenate([-sizes[:, :0:-1], sizes], 1)
