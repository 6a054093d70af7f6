"""Layers over training: a histogram over time of each, and all of them in one figure. In: layer_stats.Series."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seedbed.layer_stats import NEAR_ZERO, Series

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS = 100  # of a histogram over time
SHOWN = 0.999  # share of all values that its axis spans


def rebinned(series: Series) -> tuple[np.ndarray, np.ndarray]:
    """(counts [T, ROWS], edges [ROWS + 1]) on one axis for all steps; a bin's values are spread evenly in it."""
    finite = np.isfinite(series.low) & np.isfinite(series.high)
    if not finite.any():
        return np.zeros((len(series.steps), ROWS)), np.linspace(-1, 1, ROWS + 1)
    low, high = series.low[finite].min(), series.high[finite].max()
    fine = spread(series, np.linspace(low, max(high, low + 1e-6), 20 * ROWS + 1))
    cumulative = fine.sum(0).cumsum() / max(fine.sum(), 1)
    inside = np.flatnonzero((cumulative > (1 - SHOWN) / 2) & (cumulative < (1 + SHOWN) / 2))
    first, last = (inside[0], inside[-1] + 1) if len(inside) else (0, 20 * ROWS)
    step = (max(high, low + 1e-6) - low) / (20 * ROWS)
    edges = np.linspace(low + first * step, low + last * step, ROWS + 1)
    return spread(series, edges), edges


def spread(series: Series, edges: np.ndarray) -> np.ndarray:
    """Counts [T, len(edges) − 1] of the recorded histograms between `edges`."""
    rows = []
    for low, high, counts in zip(series.low, series.high, series.counts, strict=True):
        own = np.linspace(low, max(high, low + 1e-6), len(counts) + 1)
        below = np.concatenate([[0.0], counts.cumsum(dtype=np.float64)])
        rows.append(np.diff(np.interp(edges, own, below)))
    return np.nan_to_num(np.array(rows))


def histogram_over_time(name: str, series: Series) -> Figure:
    """Counts as colours (logarithmic), activation upwards, training to the right; the share near zero below it."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=100, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    counts, edges = rebinned(series)
    share = counts / np.maximum(series.counts.sum(1), 1)[:, None]  # of the layer's activations at that step
    end = series.steps[-1] + (series.steps[-1] - series.steps[-2] if len(series.steps) > 1 else 1)
    extent = (series.steps[0], end, edges[0], edges[-1])  # a column lasts until the next recorded step
    colours = {"norm": LogNorm(vmin=1e-4, vmax=1.0), "cmap": colormaps["magma"].with_extremes(under="black")}
    shown = top.imshow(np.maximum(share.T, 1e-9), origin="lower", extent=extent, aspect="auto", **colours)
    label, form = "share of activations", lambda share, _: f"{100 * share:g} %"
    figure.colorbar(shown, ax=top, label=label, format=form, extend="min")
    top.plot(series.steps, series.mean, color="cyan", lw=1.2, label="mean")
    with np.errstate(invalid="ignore"):  # of a run that diverged
        around = np.stack([series.mean - series.std, series.mean + series.std], 1)
    top.plot(series.steps, around, color="cyan", lw=0.8, ls="--", label=["mean ± std", None])
    top.set(title=f"{name}: activations over training", ylabel="activation", ylim=(edges[0], edges[-1]))
    top.legend(loc="upper left", fontsize=8, framealpha=0.8)
    bottom.plot(series.steps, 100 * series.near_zero, color="tab:red")
    bottom.set(ylim=(-3, 103), xlim=extent[:2], xlabel="training step", ylabel=f"% near zero\n(|x| < {NEAR_ZERO})")
    bottom.grid(alpha=0.3)
    return figure


def overview(layers: dict[str, Series]) -> Figure:
    """Mean, std and share near zero of every layer's activations, std of their gradients, from first layer to last."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), dpi=100, layout="constrained")
    axes = figure.subplots(2, 2, sharex=True).flatten()
    for i, (name, s) in enumerate(layers.items()):
        gradient = np.where(s.gradient_std > 0, s.gradient_std, np.nan)  # 0 has no place on a logarithmic axis
        colour = colormaps["viridis"](i / max(len(layers) - 1, 1) * 0.92)
        for ax, values in zip(axes, (s.mean, s.std, 100 * s.near_zero, gradient), strict=True):
            ax.plot(s.steps, values, color=colour, lw=1.2, label=name)
    titles = ("mean of activations", "std of activations", f"% of activations near zero (|x| < {NEAR_ZERO})",
              "std of gradients of the loss by activations")  # fmt: skip
    for ax, title in zip(axes, titles, strict=True):
        ax.set_title(title)
        ax.grid(alpha=0.3)
    axes[2].set(ylim=(-3, 103), xlabel="training step")
    axes[3].set(yscale="log", xlabel="training step")
    figure.suptitle("Layers over training, first layer dark to last layer bright")
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=8 if len(layers) < 25 else 6
    )
    return figure
