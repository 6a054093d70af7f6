"""One step of gradient descent in numbers, and what happens if gradients are not cleared (fastbook ch. 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seedbed.errors import ConfigError
from seedbed.studies.findings import Findings, canvas

WAYS = {True: "cleared", False: "not cleared"}


@dataclass
class Step:
    """The loss before a step, and all parameters and their gradients as one vector each."""

    loss: float
    weights: Tensor
    gradients: Tensor  # as .grad holds them


def steps(module, batch: tuple[Tensor, Tensor], lr: float, count: int, clear: bool) -> list[Step]:
    """Make steps weights −= lr · gradient on one batch; return the state before each and after the last.

    Raises ConfigError for a model without weights.
    """
    x, y = batch
    parameters = [p for p in module.net.parameters() if p.requires_grad]
    if not parameters:
        raise ConfigError("study.overrides: this model has no weights that a gradient changes")

    def vector(of: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.cat([of(p).detach().flatten() for p in parameters]).clone()

    recorded = []
    for _ in range(count + 1):
        loss = module.loss(module.net(x), y)
        loss.backward()
        recorded.append(Step(loss.item(), vector(lambda p: p), vector(lambda p: p.grad)))
        with torch.no_grad():
            for p in parameters:
                p -= lr * p.grad
                if clear:
                    p.grad = None
    return recorded


def one_step(lab, lr: float, count: int, seed: int, shown: int, overrides: Sequence[str]) -> Findings:
    """Show the numbers of the first step for the first `shown` weights, and the losses of `count` steps."""
    runs = {}
    for clear, name in WAYS.items():
        module, data = lab.module(overrides, seed)
        runs[name] = steps(module, next(iter(data.train_dataloader())), lr, count, clear)
    first, second = runs["cleared"][:2]
    gradients = [runs[name][1].gradients for name in WAYS.values()]
    columns = [first.weights, first.gradients, lr * first.gradients, second.weights, *gradients]
    trained = [(name, p.numel()) for name, p in module.net.named_parameters() if p.requires_grad]
    names = [f"{name}[{i}]" for name, numel in trained for i in range(numel)]
    return Findings(
        f"One step with lr {lr:g} takes the loss from {first.loss:.6g} to {second.loss:.6g}, {count} steps take it to "
        f"{runs['cleared'][-1].loss:.6g}\nif gradients are cleared after each step and to "
        f"{runs['not cleared'][-1].loss:.6g} if not. The last two columns are the gradients\nbefore the second step: "
        "if the first ones are not cleared, .grad holds the sum of both.",
        ["weight", "value", "gradient", "gradient × lr", "new value", "next, cleared", "next, not cleared"],
        [[name, *(float(column[i]) for column in columns)] for i, name in enumerate(names[:shown])],
        {"one_step": _picture(runs, lr)},
        {f"loss/gradients {name}": {n: step.loss for n, step in enumerate(run)} for name, run in runs.items()},
        [
            {"gradients": name, "step": n, "loss": step.loss, "gradient norm": float(step.gradients.norm())}
            for name, run in runs.items()
            for n, step in enumerate(run)
        ],
    )


def _picture(runs: dict[str, list[Step]], lr: float):
    fig, (left, right) = canvas(11, 4.5, 1, 2)
    for n, (name, run) in enumerate(runs.items()):
        style = {"marker": "os"[n], "markersize": 3, "color": ("C0", "C3")[n], "label": f"gradients {name}"}
        left.plot([step.loss if math.isfinite(step.loss) else math.nan for step in run], **style)
        right.plot([float(step.gradients.norm()) for step in run], **style)
    for ax, label in ((left, "loss (log)"), (right, "length of the vector of gradients (log)")):
        ax.set_yscale("log")
        ax.set(xlabel="step", ylabel=label)
        ax.grid(alpha=0.3, which="both")
    fig.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    fig.suptitle(f"The same steps with lr {lr:g}, gradients cleared after each or not")
    return fig
