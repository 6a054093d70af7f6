"""Explosion and vanishing: a vector after a hundred random layers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from seedbed.studies.findings import Findings, canvas

# standard deviation of a matrix's entries, f(size)
SCALES: dict[str, Callable[[int], float]] = {
    "standard normal": lambda size: 1.0,
    "× 0.01": lambda size: 0.01,
    "× 1/√size": lambda size: 1 / math.sqrt(size),
}


def multiply(std: float, size: int = 512, times: int = 100, seed: int = 0) -> Tensor:
    """Return a standard normal vector after 0, 1, …, `times` multiplications: float32 [times + 1, size].

    Each multiplication is with a new matrix [size, size] of normal entries with this std.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, generator=generator)
    vectors = [x]
    for _ in range(times):
        x = torch.randn(size, size, generator=generator) * std @ x
        vectors.append(x)
    return torch.stack(vectors)


def rms(vectors: Tensor) -> Tensor:
    """Return the root mean square of each row, in float64, where the squares of float32 numbers are finite."""
    return vectors.double().square().mean(1).sqrt()


def explosion(lab, size: int = 512, times: int = 100, seeds: int = 5) -> Findings:
    """Multiply a vector by 100 random matrices of three scales (fast.ai part 2, lesson 9)."""
    vectors = {name: [multiply(std(size), size, times, s) for s in range(seeds)] for name, std in SCALES.items()}
    sizes = {name: torch.stack([rms(v) for v in runs]) for name, runs in vectors.items()}  # [seeds, times + 1]
    is_nan, is_zero = (lambda v: v.isnan().any(1)), (lambda v: (v == 0).all(1))
    firsts = {
        name: [_range([_first_true(test(run)) for run in runs]) for test in (is_nan, is_zero)]
        for name, runs in vectors.items()
    }
    header = ["matrices", "nan from", "0 from", f"mean rms after {times}", "min", "max"]
    last = {name: runs[:, -1] for name, runs in sizes.items()}
    rows = [[name, *firsts[name], *map(float, (x.mean(), x.min(), x.max()))] for name, x in last.items()]
    return Findings(
        f"A vector of {size} standard normal numbers, multiplied {times} times, {seeds} seeds:",
        header,
        rows,
        {"explosion": _picture(sizes, firsts, size)},
        {f"rms/{name}": dict(enumerate(runs[0].tolist())) for name, runs in sizes.items()},
        [
            {"matrices": name, "seed": seed, "multiplications": n, "rms": value}
            for name, runs in sizes.items()
            for seed, run in enumerate(runs.tolist())
            for n, value in enumerate(run)
        ],
    )


def _first_true(steps: Tensor) -> int | None:
    return int(steps.nonzero()[0]) if steps.any() else None


def _range(numbers: list[int | None]) -> str:
    """Return "28" if all seeds agree, else "27–29", "28 (3 of 5)" or "never"."""
    known = [n for n in numbers if n is not None]
    if not known:
        return "never"
    text = str(min(known)) if min(known) == max(known) else f"{min(known)}–{max(known)}"
    return text if len(known) == len(numbers) else f"{text} ({len(known)} of {len(numbers)})"


def _picture(sizes: dict[str, Tensor], firsts: dict[str, list[str]], size: int):
    fig, ax = canvas(9, 5.5)
    for i, (name, runs) in enumerate(sizes.items()):
        nan, zero = firsts[name]
        fate = f"nan from {nan}" if nan != "never" else f"0 from {zero}" if zero != "never" else ""
        fate = fate or f"{runs[:, -1].mean():.2g} at the end"
        for run in runs:
            shown = run.where(run.isfinite() & (run > 0), math.nan)
            (line,) = ax.plot(shown, color=f"C{i}", linewidth=1.5, alpha=0.7)
        line.set_label(f"{name}: {fate}")
    limits = torch.finfo(torch.float32)
    smallest = limits.smallest_normal * limits.eps
    for limit, name, va in ((limits.max, "largest", "bottom"), (smallest, "smallest", "top")):  # no line is there
        ax.axhline(limit, color="grey", linestyle=":", linewidth=1)
        ax.text(len(shown) - 1, limit, f"{name} float32: {limit:.1e}", color="grey", ha="right", va=va, fontsize=9)
    ax.set_yscale("log")
    ax.set_yticks([10.0**e for e in range(-50, 50, 10)])
    ax.set_ylim(1e-50, 1e45)
    ax.set_title(f"A vector multiplied by random {size} × {size} matrices, {len(runs)} seeds each")
    fig.legend(loc="outside lower center", ncols=len(sizes))  # inside the axes it would cover a line, for some size
    ax.set_xlabel("multiplications")
    ax.set_ylabel("root mean square of the vector (log)")
    ax.grid(alpha=0.3)
    return fig
