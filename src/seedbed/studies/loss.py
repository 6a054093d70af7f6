"""Which loss trains best? Each at its own best learning rate, by the accuracy that is reached."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from seedbed.metrics import VAL_ACCURACY
from seedbed.pictures.log_axis import plain_numbers
from seedbed.studies import over_seeds
from seedbed.studies.findings import Findings, canvas
from seedbed.tables import show


def loss(
    lab, losses: Sequence[str], lrs: Sequence[float], seeds: int, epochs: int, overrides: Sequence[str]
) -> Findings:
    """Measure the accuracy of every loss × lr, and its curve at the lr with the best mean over seeds."""
    lab.check(*([f"loss={name}"] for name in losses))
    lrs = [show(lr) for lr in sorted(lrs)]
    axes = [f"loss={','.join(losses)}", f"optim.lr={','.join(lrs)}", f"seed=range(0,{seeds})"]
    jobs = lab.sweep([*overrides, *axes, f"trainer.max_epochs={epochs}"])
    groups = {(name, lr): over_seeds.select(jobs, {"loss": name, "optim.lr": lr}) for name in losses for lr in lrs}
    accuracies = {key: over_seeds.accuracies(group) for key, group in groups.items()}
    means = {key: over_seeds.mean_and_interval(values) for key, values in accuracies.items()}
    best = {name: max(lrs, key=lambda lr: means[name, lr][0] if accuracies[name, lr] else 0.0) for name in losses}
    curves = {name: over_seeds.mean_curve(groups[name, best[name]], lab.runs, VAL_ACCURACY) for name in losses}
    rows = []
    for name in sorted(losses, key=lambda name: -means[name, best[name]][0]):
        values = accuracies[name, best[name]]
        ends = (min(values), max(values)) if values else (None, None)
        rows.append([name, best[name], len(values), *means[name, best[name]], *ends])
    return Findings(
        f"Validation accuracy after {epochs} epochs with {' '.join(overrides)}, each loss at the best of "
        f"{len(lrs)} lrs:",
        ["loss", "best lr", "seeds", "mean", "± 95 %", "min", "max"],
        rows,
        {"loss": _picture(losses, lrs, accuracies, best, curves, seeds)},
        {
            f"val accuracy/{name} lr {best[name]}": {epoch: mean for epoch, (mean, _) in curve.items()}
            for name, curve in curves.items()
        },
        [
            {"loss": name, "optim.lr": lr, "seeds": len(accuracies[name, lr]), "mean": mean, "half interval": half}
            for (name, lr), (mean, half) in means.items()
        ],
    )


def _picture(losses: Sequence[str], lrs: Sequence[str], accuracies: dict, best: dict, curves: dict, seeds: int):
    from matplotlib.ticker import MaxNLocator, NullLocator

    fig, (left, right) = canvas(13, 5, 1, 2)
    for i, name in enumerate(losses):
        errors = {float(lr): [100 * (1 - v) for v in accuracies[name, lr]] for lr in lrs if accuracies[name, lr]}
        means = [fmean(values) for values in errors.values()]
        ranges = [[abs(mean - end(v)) for mean, v in zip(means, errors.values(), strict=True)] for end in (min, max)]
        left.errorbar(list(errors), means, ranges, capsize=3, alpha=0.8, **over_seeds.style(i))
        error_curve = {epoch: (100 * (1 - mean), 100 * half) for epoch, (mean, half) in curves[name].items()}
        over_seeds.draw_curve(right, f"{name}, lr {best[name]}", over_seeds.style(i), error_curve)
    left.set_title("after the last epoch: mean and range")
    left.set_xlabel("learning rate (log)")
    left.set_xscale("log")
    left.set_xticks([float(lr) for lr in lrs], lrs)
    left.xaxis.set_minor_locator(NullLocator())
    right.set_title("at each loss's best learning rate: mean and 95 % band")
    right.set_xlabel("epoch")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.set_ylabel("validation error in %")
    left.set_ylabel("validation error in % (log)")
    left.set_yscale("log")
    plain_numbers(left.yaxis)
    for ax in (left, right):
        ax.grid(alpha=0.3, which="both")
    fig.legend(*right.get_legend_handles_labels(), loc="outside right center", title="loss")
    fig.suptitle(f"Which loss trains best? {seeds} seeds")
    return fig
