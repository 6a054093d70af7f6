"""Which loss trains best? Each at its own best learning rate, by the accuracy that is reached."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from seedbed.studies import sweeps
from seedbed.studies.findings import Findings
from seedbed.tables import show


def loss(lab, losses: Sequence[str], lrs: Sequence[float], seeds: int, epochs: int, words: Sequence[str]) -> Findings:
    """Accuracy of every loss × lr, and its curve at the lr whose mean is best; 95 % intervals over seeds."""
    lab.check(*([f"loss={name}"] for name in losses))
    shown = [show(lr) for lr in sorted(lrs)]
    axes = [f"loss={','.join(losses)}", f"optim.lr={','.join(shown)}", sweeps.seeds_word(seeds)]
    jobs = lab.sweep([*words, *axes, f"trainer.max_epochs={epochs}"])
    groups = {(name, lr): sweeps.having(jobs, {"loss": name, "optim.lr": lr}) for name in losses for lr in shown}
    numbers = {key: sweeps.accuracies(group) for key, group in groups.items()}
    means = {key: sweeps.mean_and_interval(values) for key, values in numbers.items()}
    best = {name: max(shown, key=lambda lr: means[name, lr][0] if numbers[name, lr] else 0.0) for name in losses}
    curves = {name: sweeps.mean_curve(groups[name, best[name]], lab.runs, "val/accuracy") for name in losses}
    rows = []
    for name in sorted(losses, key=lambda name: -means[name, best[name]][0]):
        values = numbers[name, best[name]]
        ends = (min(values), max(values)) if values else (None, None)
        rows.append([name, best[name], len(values), *means[name, best[name]], *ends])
    return Findings(
        f"Validation accuracy after {epochs} epochs with {' '.join(words)}, each loss at the best of {len(lrs)} lrs:",
        ["loss", "best lr", "seeds", "mean", "± 95 %", "min", "max"],
        rows,
        {"loss": _picture(losses, shown, numbers, best, curves, seeds)},
        {
            f"val accuracy/{name} lr {best[name]}": dict(enumerate(curve, start=1))
            for name, (curve, _) in curves.items()
        },
        [
            {"loss": name, "optim.lr": lr, "seeds": len(numbers[name, lr]), "mean": mean, "half interval": half}
            for (name, lr), (mean, half) in means.items()
        ],
    )


def _picture(losses: Sequence[str], lrs: Sequence[str], numbers: dict, best: dict, curves: dict, seeds: int):
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, NullLocator

    fig = Figure(figsize=(13, 5), layout="constrained")
    left, right = fig.subplots(1, 2)
    for i, name in enumerate(losses):
        errors = {float(lr): [100 * (1 - v) for v in numbers[name, lr]] for lr in lrs if numbers[name, lr]}
        means = [fmean(values) for values in errors.values()]
        reach = [[abs(mean - end(v)) for mean, v in zip(means, errors.values(), strict=True)] for end in (min, max)]
        left.errorbar(list(errors), means, reach, capsize=3, alpha=0.8, **sweeps.style(i))
        curve = [[100 * (1 - mean) for mean in curves[name][0]], [100 * half for half in curves[name][1]]]
        sweeps.draw_curve(right, f"{name}, lr {best[name]}", sweeps.style(i), *curve)
    left.set_title("after the last epoch: mean, least and most")
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
    sweeps.plain_numbers(left.yaxis)
    for ax in (left, right):
        ax.grid(alpha=0.3, which="both")
    fig.legend(*right.get_legend_handles_labels(), loc="outside right center", title="loss")
    fig.suptitle(f"Which loss trains best? {seeds} seeds")
    return fig
