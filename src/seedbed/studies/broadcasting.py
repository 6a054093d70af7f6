"""One matrix product in pure Python, with broadcasting and as a matmul (fast.ai part 2, "matmul")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from timeit import Timer

import torch
from torch import Tensor

from seedbed.studies.findings import Findings, canvas


def pure_python(x: list[list[float]], w: list[list[float]]) -> list[list[float]]:
    columns = list(zip(*w, strict=True))
    return [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in x]


def elementwise(x: Tensor, w: Tensor) -> Tensor:
    product = torch.empty(len(x), w.shape[1])
    for i in range(len(x)):
        for j in range(w.shape[1]):
            product[i, j] = (x[i] * w[:, j]).sum()
    return product


def broadcast_rows(x: Tensor, w: Tensor) -> Tensor:
    return torch.stack([(row[:, None] * w).sum(0) for row in x])


def broadcast_all(x: Tensor, w: Tensor) -> Tensor:
    return (x[:, :, None] * w).sum(1)  # [B, K, 1] · [K, N] → [B, K, N] → [B, N]


def einsum(x: Tensor, w: Tensor) -> Tensor:
    return torch.einsum("bk,kn->bn", x, w)


# way → (function, its innermost expression)
WAYS: dict[str, tuple[Callable, str]] = {
    "pure Python, three loops": (pure_python, "sum(a * b for a, b in zip(row, column))"),
    "two loops, elementwise": (elementwise, "(x[i] * w[:, j]).sum()"),
    "one loop, broadcasting": (broadcast_rows, "(x[i][:, None] * w).sum(0)"),
    "no loop, broadcasting": (broadcast_all, "(x[:, :, None] * w).sum(1)"),
    "einsum": (einsum, 'torch.einsum("bk,kn->bn", x, w)'),
    "matmul": (torch.matmul, "x @ w"),
}


def broadcasting(lab, images: int, outputs: int, overrides: Sequence[str]) -> Findings:
    """Time each way to multiply images with a weight matrix [pixels, outputs], and compare the results."""
    x = lab.data(overrides).sample.flatten(1)[:images]
    w = torch.randn(x.shape[1], outputs, generator=torch.Generator().manual_seed(0))
    exact = x.double() @ w.double()
    seconds, rows, threads = {}, [], torch.get_num_threads()
    torch.set_num_threads(1)  # pure Python has one, too
    for name, (function, code) in WAYS.items():
        arguments = (x.tolist(), w.tolist()) if function is pure_python else (x, w)
        difference = (torch.as_tensor(function(*arguments)).double() - exact).abs().max().item()
        count, total = Timer(partial(function, *arguments)).autorange()
        seconds[name] = total / count
        rows.append([name, code, f"{1e3 * seconds[name]:.4g}", difference])
    torch.set_num_threads(threads)
    slowest = max(seconds.values())
    rows = [[name, code, ms, f"{slowest / seconds[name]:,.0f}", error] for name, code, ms, error in rows]
    return Findings(
        f"[{len(x)}, {x.shape[1]}] × [{x.shape[1]}, {outputs}], each with one thread:",
        ["way", "code", "ms", "times as fast", "largest error"],
        rows,
        {"broadcasting": _picture(seconds, f"[{len(x)}, {x.shape[1]}] × [{x.shape[1]}, {outputs}]")},
    )


def _picture(seconds: dict[str, float], title: str):
    fig, ax = canvas(8, 3.6)
    bars = ax.barh(list(seconds), [1e3 * s for s in seconds.values()], color="C0")
    ax.bar_label(bars, [f"{1e3 * s:.3g} ms" for s in seconds.values()], padding=3)
    ax.set_xscale("log")
    ax.set_xlim(right=6e3 * max(seconds.values()))
    ax.invert_yaxis()
    ax.set_xlabel("milliseconds (log)")
    ax.set_title(f"The same product {title}")
    return fig
