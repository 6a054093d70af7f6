"""Which init still trains a deep network? MLPs of 2 to 50 layers."""

from __future__ import annotations

from collections.abc import Sequence

from seedbed.colours import HEAT_MAP
from seedbed.studies import over_seeds
from seedbed.studies.findings import Findings, canvas
from seedbed.tables import show


def depth(
    lab,
    depths: Sequence[int],
    width: int,
    inits: Sequence[str],
    lrs: Sequence[float],
    seeds: int,
    epochs: int,
    overrides: Sequence[str],
) -> Findings:
    """Measure the mean accuracy of MLPs with these numbers of linear layers, for each init at the best of the lrs."""
    lab.check(*([f"init={name}"] for name in inits))
    hidden = {d: show([width] * (d - 1)) for d in depths}
    lrs = [show(lr) for lr in lrs]
    axes = [f"model.hidden={','.join(hidden.values())}", f"init={','.join(inits)}", f"optim.lr={','.join(lrs)}"]
    jobs = lab.sweep([*overrides, *axes, f"seed=range(0,{seeds})", f"trainer.max_epochs={epochs}"])

    def best(name: str, layers: int) -> tuple[tuple[float, float], str]:
        """Return the best mean over seeds, with its interval, and the lr."""
        values = {"init": name, "model.hidden": hidden[layers]}
        groups = {lr: over_seeds.select(jobs, {**values, "optim.lr": lr}) for lr in lrs}
        return max((over_seeds.mean_and_interval(over_seeds.accuracies(g) or [0.0]), lr) for lr, g in groups.items())

    results = {(name, d): best(name, d) for name in inits for d in depths}
    accuracies = {name: {d: results[name, d][0][0] for d in depths} for name in inits}
    best_first = sorted(inits, key=lambda name: -sum(accuracies[name].values()))
    return Findings(
        f"Validation accuracy after {epochs} epochs by number of layers, each at the best of lr {', '.join(lrs)}; "
        f"means over {seeds} seeds:",
        ["init", *map(str, depths)],
        [[name, *accuracies[name].values()] for name in best_first],
        {"depth": _picture({name: accuracies[name] for name in best_first}, width, epochs, seeds)},
        {f"accuracy by layers/{name}": by_depth for name, by_depth in accuracies.items()},
        [
            {"init": name, "layers": d, "best lr": lr, "mean": mean, "half interval": half}
            for (name, d), ((mean, half), lr) in results.items()
        ],
    )


def _picture(accuracies: dict[str, dict[int, float]], width: int, epochs: int, seeds: int):
    inits, depths = list(accuracies), list(next(iter(accuracies.values())))
    values = [list(by_depth.values()) for by_depth in accuracies.values()]
    fig, ax = canvas(3.5 + 0.9 * len(depths), 1.8 + 0.5 * len(inits))
    image = ax.imshow(values, vmin=0.5, vmax=1, cmap=HEAT_MAP, aspect="auto")
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            ax.text(x, y, f"{value:.3f}", ha="center", va="center", color="black" if value > 0.8 else "white")
    ax.set_xticks(range(len(depths)), depths)
    ax.set_yticks(range(len(inits)), inits)
    ax.set_xlabel(f"linear layers ({width} units each, ReLU between)")
    ax.set_ylabel("init")
    ax.set_title(f"Which init still trains? After {epochs} epochs, {seeds} seeds")
    fig.colorbar(image, label="validation accuracy, mean")
    return fig
