"""Layers over training: histograms over time of each layer, and all layers in one figure."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from seedbed.colours import HISTOGRAMS, ORDER
from seedbed.pictures.layer_series import GRADIENT_NEAR_ZERO, NEAR_ZERO, Series, Values

ROWS = 100  # of a histogram over time
SHOWN = 0.999  # share of all values that its axis spans
MAX_LEGEND = 40  # layers; more have a colour bar that names a few
STEP = "mini-batch of training"
ACTIVATION_LABEL = f"% near zero\n(|x| < {NEAR_ZERO})"
GRADIENT_LABEL = f"% near zero (at most\n1/{1 / GRADIENT_NEAR_ZERO:g} of largest)"


def rebinned(counts: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put the histograms of all steps on one axis: (counts [T, ROWS], edges [ROWS + 1]).

    counts: [T, B] between each step's own edges [T, B + 1]. The values of a bin are spread evenly over it; a step whose
    edges are NaN has no values.
    """
    known = np.isfinite(edges).all(1)
    if not known.any():
        return np.zeros((len(counts), ROWS)), np.linspace(-1, 1, ROWS + 1)
    # a fine axis over everything tells which part of it holds SHOWN of the values
    low, high = edges[known].min(), edges[known].max()
    axis = np.linspace(low, max(high, low + 1e-6), 20 * ROWS + 1)
    fine = spread(counts, edges, axis).sum(0)
    cumulative = fine.cumsum() / max(fine.sum(), 1)
    inside = np.flatnonzero((cumulative > (1 - SHOWN) / 2) & (cumulative < (1 + SHOWN) / 2))
    first, last = (inside[0], inside[-1] + 1) if len(inside) else (0, 20 * ROWS)
    axis = np.linspace(axis[first], axis[last], ROWS + 1)
    return spread(counts, edges, axis), axis


def spread(counts: np.ndarray, edges: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Return the counts of each step between the edges of `axis`, [T, len(axis) − 1]."""
    below = np.pad(counts.cumsum(1, dtype=np.float64), ((0, 0), (1, 0)))
    rows = [np.diff(np.interp(axis, own, b)) for own, b in zip(edges, below, strict=True)]
    return np.nan_to_num(np.array(rows))


def magnitudes(gradients: Values) -> tuple[np.ndarray, np.ndarray]:
    """Return (counts, edges of log10 |gradient|), both signs together, without the bins that touch 0."""
    half = gradients.counts.shape[1] // 2
    counts = gradients.counts[:, half:] + gradients.counts[:, half - 1 :: -1]
    return counts[:, 1:], np.log10(gradients.edges[:, half + 1 :])


def histogram_over_time(name: str, series: Series) -> Figure:
    """Draw a layer's activations on the left and the gradients by them on the right, over the steps of training.

    The histograms have the value upwards (|gradient| on a log axis, for gradients span decades) and the share of the
    values as colour; below them is the share of values near zero. A layer with a weight has two more histograms below,
    of the weight and of the gradients by it.
    """
    has_weight = series.weights is not None
    figure = Figure(figsize=(13, 9.4 if has_weight else 5.6), dpi=80)
    axes = figure.subplots(3 if has_weight else 2, 2, sharex=True, height_ratios=(5, 2, 5)[: 3 if has_weight else 2])
    figure.subplots_adjust(0.07, 0.06 if has_weight else 0.1, 0.91, 0.94, wspace=0.25, hspace=0.15)
    draw_values(axes[0, 0], series.steps, series.activations, "activation")
    image = draw_gradients(axes[0, 1], series.steps, series.gradients, "this layer")
    labels = (ACTIVATION_LABEL, GRADIENT_LABEL)
    for ax, values, label in zip(axes[1], (series.activations, series.gradients), labels, strict=True):
        ax.plot(series.steps, 100 * values.near_zero, color="tab:red")
        ax.set(ylim=(-3, 103), xlim=extent(series.steps))
        ax.set_ylabel(label, fontsize=8)
        ax.locator_params(axis="x", integer=True)
        ax.grid(alpha=0.3)
    axes[0, 0].set_title(f"{name}: activations", y=1.01)  # with a y, matplotlib need not search for one
    axes[0, 1].set_title("gradients of the loss with respect to these activations", y=1.01)
    if has_weight:
        draw_values(axes[2, 0], series.steps, series.weights, "weight")
        draw_gradients(axes[2, 1], series.steps, series.weight_gradients, "this weight")
        axes[2, 0].set_title("its weight", y=1.01)
        axes[2, 1].set_title("gradients of the loss with respect to this weight", y=1.01)
    for ax in axes[-1]:
        ax.set_xlabel(STEP)
    top, bottom = axes[0, 1].get_position().y1, axes[0, 1].get_position().y0
    bar = figure.colorbar(
        image, cax=figure.add_axes((0.93, bottom, 0.012, top - bottom)), extend="min", ticks=range(-4, 1)
    )
    bar.ax.set_yticklabels([f"{100 * 10.0**k:g} %" for k in range(-4, 1)])
    figure.text(0.92, top + 0.015, "share of values", fontsize=9)
    return figure


def draw_values(ax: Axes, steps: np.ndarray, values: Values, label: str) -> None:
    _, axis = draw_histograms(ax, steps, values, values.counts, values.edges)
    with np.errstate(invalid="ignore"):  # of a run that diverged
        around = np.stack([values.mean - values.std, values.mean + values.std], 1)
    ax.plot(steps, values.mean, color="cyan", lw=1.2, label="mean")
    ax.plot(steps, around, color="cyan", lw=0.8, ls="--", label=["mean ± std", None])
    ax.set(ylabel=label, ylim=(axis[0], axis[-1]))
    ax.legend(loc="upper left", fontsize=8, framealpha=0.8)


def draw_gradients(ax: Axes, steps: np.ndarray, values: Values, receiver: str) -> AxesImage:
    """Draw |gradient| on a log axis. receiver: what has no gradient, in the text of an empty panel."""
    with np.errstate(divide="ignore", invalid="ignore"):
        image, axis = draw_histograms(ax, steps, values, *magnitudes(values))
        lines = {"std": (values.std, "-"), "|mean|": (np.abs(values.mean), "--")}
        for label, (line, style) in lines.items():
            line = np.log10(positive(line))
            ax.plot(steps, line, color="cyan", lw=1.0, ls=style, label=label)
    ax.set(ylabel="|gradient|", ylim=(axis[0], axis[-1]))
    ax.yaxis.set_major_formatter(lambda power, _: f"{10.0**power:.1g}")
    if np.isfinite(values.mean).any():
        ax.legend(loc="upper left", fontsize=8, framealpha=0.8)
    else:
        ax.set_yticks([])
        why = f"no gradient came back to {receiver}" if np.isnan(values.counts).all() else "no finite gradient"
        ax.text(0.5, 0.5, why, color="white", ha="center", transform=ax.transAxes)
    return image


def positive(x: np.ndarray) -> np.ndarray:
    """Return x with nan in the place of numbers that a log axis does not have."""
    return np.where(x > 0, x, np.nan)


def extent(steps: np.ndarray) -> tuple[int, int]:
    """Return the ends of the axis of steps: the column of a step lasts until the next recorded step."""
    return steps[0], steps[-1] + (steps[-1] - steps[-2] if len(steps) > 1 else 1)


def draw_histograms(
    ax: Axes, steps: np.ndarray, values: Values, counts: np.ndarray, edges: np.ndarray
) -> tuple[AxesImage, np.ndarray]:
    """Draw each step's histogram as shares, black where there is no value; returns (image, axis)."""
    on_one_axis, axis = rebinned(np.nan_to_num(counts), edges)
    share = on_one_axis / np.maximum(np.nan_to_num(values.counts).sum(1), 1)[:, None]
    colours = {"vmin": -4, "vmax": 0, "cmap": colormaps[HISTOGRAMS].with_extremes(under="black")}
    place = {"origin": "lower", "extent": (*extent(steps), axis[0], axis[-1]), "aspect": "auto"}
    return ax.imshow(np.log10(np.maximum(share.T, 1e-9)), interpolation="nearest", **place, **colours), axis


def overview(layers: dict[str, Series]) -> Figure:
    """Draw std and share near zero of every layer's activations and gradients, and the mean of its activations."""
    figure = Figure(figsize=(14, 7.5), dpi=90)
    axes = figure.subplots(2, 3, sharex=True)
    figure.subplots_adjust(0.05, 0.08, 0.98, 0.88, wspace=0.2, hspace=0.35)
    part = 1 / GRADIENT_NEAR_ZERO
    panels = {
        axes[0, 0]: ("mean of activations", lambda s: s.activations.mean),
        axes[0, 1]: ("std of activations", lambda s: s.activations.std),
        axes[0, 2]: (f"% of activations near zero (|x| < {NEAR_ZERO})", lambda s: 100 * s.activations.near_zero),
        axes[1, 1]: ("std of gradients with respect to activations", lambda s: positive(s.gradients.std)),
        axes[1, 2]: (f"% of gradients near zero (≤ 1/{part:g} of largest)", lambda s: 100 * s.gradients.near_zero),
    }
    colours = layer_colours()(np.linspace(0, 1, len(layers)))
    for ax, (title, statistic) in panels.items():
        for colour, (name, series) in zip(colours, layers.items(), strict=True):
            ax.plot(series.steps, statistic(series), color=colour, lw=1.2, marker=".", ms=3, label=name)
        ax.set_title(title, fontsize=10, y=1.01)
        ax.set_xlabel(STEP)
        ax.tick_params(labelbottom=True)  # sharex hides them in the upper row
        ax.locator_params(axis="x", integer=True)
        ax.grid(alpha=0.3)
    for ax in axes[:, 2]:
        ax.set_ylim(-3, 103)
    axes[1, 1].set_yscale("log")
    figure.suptitle("Layers over training, first layer dark to last layer bright")
    name_layers(axes[1, 0], axes[0, 0], list(layers))
    return figure


def layer_colours() -> Colormap:
    return ListedColormap(colormaps[ORDER](np.linspace(0, 0.92, 256)))  # its end is too bright on white


def name_layers(ax: Axes, drawn: Axes, names: list[str]) -> None:
    """Fill the empty `ax` with a legend of the lines of `drawn`, or with a colour bar for more than MAX_LEGEND."""
    ax.axis("off")
    if len(names) <= MAX_LEGEND:
        two_columns = {"ncols": 2, "fontsize": 6, "labelspacing": 0.3}
        layout = two_columns if len(names) > MAX_LEGEND // 2 else {"fontsize": 8}
        ax.legend(*drawn.get_legend_handles_labels(), loc="center", **layout)
        return
    last = len(names) - 1
    ticks = np.linspace(0, last, 13).round().astype(int)
    place = ax.inset_axes((0.2, 0.0, 0.06, 1.0))
    bar = ax.figure.colorbar(ScalarMappable(Normalize(0, last), layer_colours()), cax=place, ticks=ticks)
    bar.ax.set_yticklabels([f"{i + 1}: {names[i]}" for i in ticks], fontsize=8)
    bar.ax.invert_yaxis()  # the first layer at the top, as in a printed network
