"""Gradient descent on x², with small and with too large steps, and on the parameters of a parabola (fastbook ch. 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from seedbed.data.functions import roller_coaster
from seedbed.studies.findings import Findings, canvas
from seedbed.tables import show

FAR = 1000  # times the start: where a diverging walk leaves the picture
VARIED = (0.6, 1.0, 1.4)  # times the best value of a parameter


def walk(start: float, lr: float, steps: int) -> list[tuple[float, float]]:
    """Return (x, slope of x²) before each step of gradient descent and after the last."""
    x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    places = []
    for _ in range(steps + 1):
        (x**2).backward()
        places.append((x.item(), x.grad.item()))
        with torch.no_grad():
            x -= lr * x.grad
        x.grad = None
    return places


def descent(lab, start: float, lrs: Sequence[float], steps: int, noise_seed: int) -> Findings:
    """Follow gradient descent on x² for each lr, and draw how the loss of a parabola depends on its parameters."""
    walks = {lr: walk(start, lr, steps) for lr in lrs}
    shown = [*(n for n in (1, 2, 3) if n < steps), steps]
    rows = [
        [show(lr), *(places[n][0] for n in shown), places[-1][0] * places[-1][0], _fate(places)]
        for lr, places in walks.items()
    ]
    return Findings(
        f"{steps} steps x ← x − lr · slope on the loss x², from x = {start:g} with slope 2x = {2 * start:g}:",
        ["lr", *(f"x after {n}" for n in shown), "loss", "it"],
        rows,
        {"descent": _draw_descent(walks), "quadratic": _draw_quadratic(noise_seed)},
        {f"loss/lr {show(lr)}": {n: x * x for n, (x, _) in enumerate(places)} for lr, places in walks.items()},
        [
            {"lr": lr, "step": n, "x": x, "slope": slope, "loss": x * x}
            for lr, places in walks.items()
            for n, (x, slope) in enumerate(places)
        ],
    )


def _fate(places: Sequence[tuple[float, float]]) -> str:
    first, second, last = places[0][0], places[1][0], places[-1][0]
    if not abs(last) <= abs(first):  # nan, too
        return "diverges"
    return "overshoots, then settles" if first * second < 0 else "goes down"


def _draw_descent(walks: dict[float, list[tuple[float, float]]]):
    """Draw the slope at the start, the places of each walk on x², and the losses of all walks."""
    columns, rows = 3, -(-(len(walks) + 2) // 3)
    fig, axes = canvas(12, 3.6 * rows, rows, columns, squeeze=False)
    first, *panels = axes.flat
    losses, *empty = panels[len(walks) :]
    start, slope = next(iter(walks.values()))[0]
    _draw_parabola(first, 1.25 * abs(start))
    nearby = np.array([0.6, 1.2]) * start
    first.plot(nearby, start**2 + slope * (nearby - start), color="C3", label=f"slope {slope:g}")
    first.plot(start, start**2, "o", color="C3")
    first.legend()
    first.set_title(f"the slope at x = {start:g}")
    for n, (ax, (lr, places)) in enumerate(zip(panels, walks.items(), strict=False)):
        x = np.array([place for place, _ in places if abs(place) < FAR * abs(start)])
        _draw_parabola(ax, 1.25 * np.abs(x).max())
        ax.plot(x, x**2, "o-", color=f"C{n}", markersize=4, linewidth=1)
        ax.set_title(f"lr {show(lr)}: {_fate(places)}")
        losses.plot(x**2, "o-", color=f"C{n}", markersize=3, label=f"lr {show(lr)}")
    losses.set(yscale="log", title="loss over steps (log)", xlabel="step")
    losses.legend(fontsize=8)
    for ax in empty:
        ax.set_axis_off()
    return fig


def _draw_parabola(ax, reach: float) -> None:
    x = np.linspace(-reach, reach, 200)
    ax.plot(x, x**2, color="0.6")
    ax.set(xlabel="x", ylabel="loss x²")


def _draw_quadratic(noise_seed: int):
    """Vary one parameter of the best parabola at a time: above the curves, below the loss over that parameter."""
    t, speed = (values.double().numpy().squeeze() for values in roller_coaster(noise_seed).train)
    powers = np.stack([t**2, t, np.ones_like(t)], 1)  # [20, 3]
    best = np.linalg.lstsq(powers, speed, rcond=None)[0]

    def loss(parameters: np.ndarray) -> float:
        return float(((powers @ parameters - speed) ** 2).mean())

    fig, axes = canvas(12, 7, 2, 3)
    for k, name in enumerate("abc"):
        top, bottom = axes[:, k]
        top.plot(t, speed, "o", color="0.6", markersize=4)
        values = best[k] * np.linspace(min(VARIED) - 0.1, max(VARIED) + 0.1, 60)
        bottom.plot(values, [loss(np.where(np.arange(3) == k, value, best)) for value in values], color="0.6")
        for n, factor in enumerate(VARIED):
            parameters = np.where(np.arange(3) == k, factor * best[k], best)
            value, height = parameters[k], loss(parameters)
            slope = 2 * ((powers @ parameters - speed) * powers[:, k]).mean()
            top.plot(t, powers @ parameters, color=f"C{n}", label=f"{name} = {value:.3g}: loss {height:.4g}")
            nearby = value + np.array([-0.12, 0.12]) * abs(best[k])
            bottom.plot(nearby, height + slope * (nearby - value), color=f"C{n}")
            bottom.plot(value, height, "o", color=f"C{n}", label=f"slope {round(slope, 6):.3g}")
        top.legend(fontsize=8)
        bottom.legend(fontsize=8)
        top.set(xlabel="time (s)", ylabel="speed", title=f"{name} varied, the others at their best")
        bottom.set(xlabel=name, ylabel="loss (mse)")
    fig.suptitle("a·t² + b·t + c: the loss over one parameter, whose slope tells which way to go")
    return fig
