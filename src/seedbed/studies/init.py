"""Does the init matter? Every init on several models, over seeds."""

from __future__ import annotations

from collections.abc import Sequence

from seedbed.studies import sweeps
from seedbed.studies.findings import Findings


def init(lab, models: Sequence[str], inits: Sequence[str], seeds: int, epochs: int, words: Sequence[str]) -> Findings:
    """Accuracy and loss curves of every init × model at one learning rate; means with 95 % intervals over seeds."""
    lab.check(*([f"model={name}"] for name in models), *([f"init={name}"] for name in inits))
    axes = [f"model={','.join(models)}", f"init={','.join(inits)}", sweeps.seeds_word(seeds)]
    jobs = lab.sweep([*words, *axes, f"trainer.max_epochs={epochs}"])
    groups = {(m, i): sweeps.having(jobs, {"model": m, "init": i}) for m in models for i in inits}
    numbers = {key: sweeps.accuracies(group) for key, group in groups.items()}
    losses = {key: sweeps.mean_curve(group, lab.runs, "train/loss") for key, group in groups.items()}
    rows = []
    for model in models:
        best_first = sorted(inits, key=lambda i: -sweeps.mean_and_interval(numbers[model, i] or [0.0])[0])
        for name in best_first:
            values = numbers[model, name]
            ends = (min(values), max(values)) if values else (None, None)
            rows.append([model, name, len(values), *sweeps.mean_and_interval(values), *ends])
    return Findings(
        f"Validation accuracy after {epochs} epochs with {' '.join(words)}: means over seeds with 95 % intervals.",
        ["model", "init", "seeds", "mean", "± 95 %", "min", "max"],
        rows,
        {"accuracy": _accuracy(models, inits, numbers, epochs), "loss": _losses(models, inits, losses, seeds)},
        {f"train loss/{model}/{name}": dict(enumerate(means, start=1)) for (model, name), (means, _) in losses.items()},
    )


def _accuracy(models: Sequence[str], inits: Sequence[str], numbers: dict, epochs: int):
    from matplotlib.figure import Figure

    fig = Figure(figsize=(4 * len(models) + 2, 1.5 + 0.45 * len(inits)), layout="constrained")
    panels = fig.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for ax, model in zip(panels, models, strict=True):
        for row, name in enumerate(inits):
            values = [100 * (1 - value) for value in numbers[model, name]]
            mean, half = sweeps.mean_and_interval(values)
            ax.plot(values, [row] * len(values), "|", color="grey", markersize=9)
            ax.errorbar(mean, row, xerr=half, fmt="o", color="C3" if name == "default" else "C0", capsize=4)
        ax.set_xscale("log")
        sweeps.plain_numbers(ax.xaxis)
        ax.set_title(model)
        ax.set_xlabel("validation error in % (log)")
        ax.grid(alpha=0.3, which="both", axis="x")
    panels[0].set_yticks(range(len(inits)), inits)
    panels[0].invert_yaxis()
    fig.suptitle(f"Error after {epochs} epochs: mean with 95 % interval, | a seed")
    return fig


def _losses(models: Sequence[str], inits: Sequence[str], losses: dict, seeds: int):
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    fig = Figure(figsize=(4 * len(models) + 2.5, 4.5), layout="constrained")
    panels = fig.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for ax, model in zip(panels, models, strict=True):
        for i, name in enumerate(inits):
            sweeps.draw_curve(ax, name, sweeps.style(i), *losses[model, name])
        ax.set_yscale("log")
        sweeps.plain_numbers(ax.yaxis)
        ax.set_title(model)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("training loss, mean of the epoch (log)")
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", title="init")
    fig.suptitle(f"Training loss: mean of {seeds} seeds with 95 % band")
    return fig
