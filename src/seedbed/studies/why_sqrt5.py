"""Why √5? Activations and gradients of a convolutional network under each init, before and after training.

Source: fast.ai part 2 (2019), lesson 9: under PyTorch's default, kaiming_uniform with a = √5, they vanish.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from seedbed.errors import ConfigError
from seedbed.inits.schemes import layers
from seedbed.studies.findings import Findings, canvas
from seedbed.tables import show

WHEN = ("before", "after")


def measure(net: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> list[dict[str, float]]:
    """Return for each layer mean, std and variance of its output (before any activation), and of its weight's gradient.

    All are over samples, channels and positions together. The net's gradients are None afterwards.
    """
    outputs: dict[nn.Module, Tensor] = {}
    hooks = [m.register_forward_hook(lambda m, args, out: outputs.update({m: out.detach()})) for m in layers(net)]
    loss(net(x), y).backward()
    for hook in hooks:
        hook.remove()
    rows = []
    for layer, out in outputs.items():
        grad = layer.weight.grad
        mean, variance = out.mean().item(), out.var().item()
        statistics = {"mean": mean, "std": math.sqrt(variance), "variance": variance}
        rows.append({**statistics, "gradient mean": grad.mean().item(), "gradient std": grad.std().item()})
    net.zero_grad()
    return rows


def train(module, batches: Iterator[tuple[Tensor, Tensor]], steps: int) -> float:
    """Plain steps at the optimiser's own lr; returns the last loss."""
    optimizer = module.configure_optimizers()
    for (x, y), _ in zip(batches, range(steps), strict=False):
        loss = module.loss(module.net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def why_sqrt5(lab, inits: Sequence[str], seeds: int, steps: int, overrides: Sequence[str]) -> Findings:
    """Measure every layer under each init, averaged over seeds, on the 256 images that an init may see."""
    lab.check(*((*overrides, f"init={init}") for init in inits))
    if not isinstance(lab.module((*overrides, f"init={inits[0]}"), 0)[0].configure_optimizers(), Optimizer):
        raise ConfigError(f"study.overrides={show(overrides)}: no single optimiser trains this model")
    details, losses = [], {}
    progress = tqdm(total=len(inits) * seeds, unit="net", desc="training", mininterval=1)
    for init in inits:
        runs, last = [], []
        for seed in range(seeds):
            module, data = lab.module((*overrides, f"init={init}"), seed)
            x, labels = data.sample, data.splits.train[1]
            y = labels[:: max(1, len(labels) // len(x))][: len(x)]
            before = measure(module.net, module.loss, x, y)
            last.append(train(module, iter(data.train_dataloader()), steps))
            runs.append((before, measure(module.net, module.loss, x, y)))
            progress.update()
        losses[init] = fmean(last)
        details += [
            {"init": init, "when": w, **row} for i, w in enumerate(WHEN) for row in _means([r[i] for r in runs])
        ]
    progress.close()
    return _findings(details, losses, seeds, steps)


def _means(runs: list[list[dict[str, float]]]) -> list[dict[str, Any]]:
    """Average each layer's statistics over seeds, layers numbered from 1; NaN or inf where a run diverged."""
    return [
        {"layer": number, **{name: fmean(row[name] for row in rows) for name in rows[0]}}
        for number, rows in enumerate(zip(*runs, strict=True), start=1)
    ]


def _findings(details: list[dict], losses: dict[str, float], seeds: int, steps: int) -> Findings:
    def values(init: str, when: str, name: str) -> list[float]:
        return [row[name] for row in details if row["init"] == init and row["when"] == when]

    depth = len(values(details[0]["init"], "before", "std"))
    header = ["init", *(f"std {i}" for i in range(1, depth + 1)), f"variance {depth}"]
    header += ["gradient 1", f"std {depth} after", "gradient 1 after", f"loss after {steps}"]
    rows = [
        [
            init,
            *values(init, "before", "std"),
            values(init, "before", "variance")[-1],
            values(init, "before", "gradient std")[0],
            values(init, "after", "std")[-1],
            values(init, "after", "gradient std")[0],
            loss,
        ]
        for init, loss in losses.items()
    ]
    curves = {
        f"{name} of layer/{when}/{init}": dict(enumerate(values(init, when, name), start=1))
        for init in losses
        for when in WHEN
        for name in ("std", "gradient std")
    }
    conclusion = (
        f"std i: of the output of layer i before training; gradient 1: std of the first weight's gradient;\n"
        f"after: {steps} steps of training; means over {seeds} seeds, nan where one diverged."
    )
    return Findings(conclusion, header, rows, {"why_sqrt5": _picture(details, seeds, steps)}, curves, details)


def _picture(details: list[dict], seeds: int, steps: int):
    fig, axes = canvas(12, 8, 2, 2, sharex=True, sharey="row")
    inits = list(dict.fromkeys(row["init"] for row in details))
    rows = {"std": "std of the layer's output", "gradient std": "std of its weight's gradient"}
    titles = {"before": "before training", "after": f"after {steps} steps"}
    for line, (name, label) in zip(axes, rows.items(), strict=True):
        for ax, (when, title) in zip(line, titles.items(), strict=True):
            for i, init in enumerate(inits):
                mine = [row for row in details if row["init"] == init and row["when"] == when]
                style = {"marker": "os^Dv"[i % 5], "color": f"C{i}", "linewidth": 3 if init == "default" else 1.5}
                ax.plot([r["layer"] for r in mine], [r[name] for r in mine], label=init, alpha=0.8, **style)
            lost = [r["init"] for r in details if r["when"] == when and r["layer"] == 1 and not math.isfinite(r[name])]
            ax.set_yscale("log")
            ax.set_title(title + (f" ({', '.join(lost)}: diverged)" if lost else ""))
            ax.set_xticks([row["layer"] for row in mine])
            ax.grid(alpha=0.3)
            if name == "std":
                ax.axhline(1, color="black", linewidth=0.8, linestyle=":")
        line[0].set_ylabel(f"{label} (log)")
    for ax in axes[-1]:
        ax.set_xlabel("layer")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right center", title="init")
    fig.suptitle(f"A network's layers under each init: means over {seeds} seeds")
    return fig
