"""Does the init matter? Every init on several models, over seeds."""

from __future__ import annotations

from collections.abc import Sequence

from seedbed.metrics import TRAIN_LOSS
from seedbed.pictures.log_axis import plain_numbers
from seedbed.studies import over_seeds
from seedbed.studies.findings import Findings, canvas


def init(
    lab, models: Sequence[str], inits: Sequence[str], seeds: int, epochs: int, overrides: Sequence[str]
) -> Findings:
    """Measure accuracies and loss curves of every init × model at one learning rate."""
    lab.check(*([f"model={name}"] for name in models), *([f"init={name}"] for name in inits))
    axes = [f"model={','.join(models)}", f"init={','.join(inits)}", f"seed=range(0,{seeds})"]
    jobs = lab.sweep([*overrides, *axes, f"trainer.max_epochs={epochs}"])
    groups = {(m, i): over_seeds.select(jobs, {"model": m, "init": i}) for m in models for i in inits}
    accuracies = {key: over_seeds.accuracies(group) for key, group in groups.items()}
    losses = {key: over_seeds.mean_curve(group, lab.runs, TRAIN_LOSS) for key, group in groups.items()}
    rows = []
    for model in models:
        best_first = sorted(inits, key=lambda i: -over_seeds.mean_and_interval(accuracies[model, i] or [0.0])[0])
        for name in best_first:
            values = accuracies[model, name]
            ends = (min(values), max(values)) if values else (None, None)
            rows.append([model, name, len(values), *over_seeds.mean_and_interval(values), *ends])
    return Findings(
        f"Validation accuracy after {epochs} epochs with {' '.join(overrides)}: means over seeds with 95 % intervals.",
        ["model", "init", "seeds", "mean", "± 95 %", "min", "max"],
        rows,
        {"accuracy": _draw_accuracies(models, inits, accuracies, epochs), "loss": _draw_losses(inits, losses, seeds)},
        {
            f"train loss/{model}/{name}": {epoch: mean for epoch, (mean, _) in curve.items()}
            for (model, name), curve in losses.items()
        },
    )


def _draw_accuracies(models: Sequence[str], inits: Sequence[str], accuracies: dict, epochs: int):
    fig, axes = canvas(4 * len(models) + 2, 1.5 + 0.45 * len(inits), 1, len(models), sharey=True, squeeze=False)
    panels = axes[0]
    for ax, model in zip(panels, models, strict=True):
        for row, name in enumerate(inits):
            errors = [100 * (1 - value) for value in accuracies[model, name]]
            mean, half = over_seeds.mean_and_interval(errors)
            ax.plot(errors, [row] * len(errors), "|", color="grey", markersize=9)
            ax.errorbar(mean, row, xerr=half, fmt="o", color="C3" if name == "default" else "C0", capsize=4)
        ax.set_xscale("log")
        plain_numbers(ax.xaxis)
        ax.set_title(model)
        ax.set_xlabel("validation error in % (log)")
        ax.grid(alpha=0.3, which="both", axis="x")
    panels[0].set_yticks(range(len(inits)), inits)
    panels[0].invert_yaxis()
    fig.suptitle(f"Error after {epochs} epochs: mean with 95 % interval; each | is a seed")
    return fig


def _draw_losses(inits: Sequence[str], losses: dict[tuple[str, str], over_seeds.Curve], seeds: int):
    from matplotlib.ticker import MaxNLocator

    models = list(dict.fromkeys(model for model, _ in losses))
    fig, axes = canvas(4 * len(models) + 2.5, 4.5, 1, len(models), sharey=True, squeeze=False)
    panels = axes[0]
    for ax, model in zip(panels, models, strict=True):
        for i, name in enumerate(inits):
            over_seeds.draw_curve(ax, name, over_seeds.style(i), losses[model, name])
        ax.set_yscale("log")
        plain_numbers(ax.yaxis)
        ax.set_title(model)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("training loss, mean of the epoch (log)")
    fig.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", title="init")
    fig.suptitle(f"Training loss: mean of {seeds} seeds with 95 % band")
    return fig
