"""Points of a function of one number: inputs float [N, 1], targets float [N], no classes."""

from __future__ import annotations

import torch

from seedbed.data.expression import evaluate
from seedbed.data.points_file import read_points
from seedbed.data.splits import Splits

# formulas on [−1, 1]
FUNCTIONS = {"sin": "sin(pi*x)", "wave": "sin(2*pi*x)", "square": "x**2", "step": "x > 0", "triangle": "1 - 2*abs(x)"}


def roller_coaster(noise_seed: int = 0) -> Splits:
    """20 noisy speeds 0.75·(t − 9.5)² + 1 + 3·randn at t = 0 … 19 seconds (fastbook ch. 4).

    The noise follows from noise_seed alone. The same 20 points train and validate.
    """
    time = torch.arange(20.0)
    noise = torch.randn(20, generator=torch.Generator().manual_seed(noise_seed))
    points = (time[:, None], 3 * noise + 0.75 * (time - 9.5) ** 2 + 1)
    return Splits(points, points, None, None, ("time (s)", "speed"))


def function(
    name: str = "sin", expression: str | None = None, points: int | str = 256, noise: float = 0.0, noise_seed: int = 0
) -> Splits:
    """A function at evenly spaced points of [−1, 1], or the points of a file; each target plus noise · randn.

    The function is an `expression` such as "sin(3*x) + x**2", else the formula of `name`. `points` is how many points
    train: those halfway between them validate. Or it is the path of a file with two columns, x and y: in the order of
    x, every fifth point validates. The noise follows from noise_seed alone.
    """
    formula = FUNCTIONS[name] if expression is None else expression
    shown = f"data.name={name}" if expression is None else f"data.expression={expression}"
    if expression is not None and name != "sin":  # sin is what the config says where nobody chose
        raise ValueError(f"data.name={name}: {shown} is given, too; leave one of them out")
    if isinstance(points, str):
        if expression is not None or name != "sin":
            raise ValueError(f"{shown}: the targets come from data.points={points}; leave one of them out")
        shown = f"data.points={points}"
        x, y, axes = read_points(points)
        valid = torch.arange(len(x)) % 5 == 2
    else:
        ends = torch.linspace(-1, 1, points, dtype=torch.float64)
        middles = (ends[1:] + ends[:-1]) / 2
        x = torch.cat([ends, middles])
        try:
            y = evaluate(formula, x)
        except ValueError as error:
            raise ValueError(f"{shown}: {error}") from error
        valid, axes = torch.arange(len(x)) >= points, ("x", f"f(x), {name if expression is None else expression}")
    y = y + noise * torch.randn(len(y), generator=torch.Generator().manual_seed(noise_seed), dtype=y.dtype)
    x, y = x[:, None].float(), y.float()
    if not y.isfinite().all():
        at = x[~y.isfinite()][0].item()
        raise ValueError(f"{shown}: is {y[~y.isfinite()][0].item():g} at x = {at:g}; every value must be finite")
    return Splits((x[~valid], y[~valid]), (x[valid], y[valid]), None, None, axes)
