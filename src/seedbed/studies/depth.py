"""How deep does an init still train? MLPs of 2 to 50 layers."""

from __future__ import annotations

from collections.abc import Sequence

from seedbed.studies import sweeps
from seedbed.studies.findings import Findings
from seedbed.tables import show


def depth(
    lab,
    depths: Sequence[int],
    width: int,
    inits: Sequence[str],
    lrs: Sequence[float],
    seeds: int,
    epochs: int,
    words: Sequence[str],
) -> Findings:
    """Mean accuracy over seeds of MLPs with so many linear layers, for each init at the best of the lrs."""
    lab.check(*([f"init={name}"] for name in inits))
    hidden = {d: show([width] * (d - 1)) for d in depths}
    shown = [show(lr) for lr in lrs]
    axes = [f"model.hidden={','.join(hidden.values())}", f"init={','.join(inits)}", f"optim.lr={','.join(shown)}"]
    jobs = lab.sweep([*words, *axes, sweeps.seeds_word(seeds), f"trainer.max_epochs={epochs}"])
    found = {}
    for name in inits:
        for d in depths:
            groups = {
                lr: sweeps.having(jobs, {"init": name, "model.hidden": hidden[d], "optim.lr": lr}) for lr in shown
            }
            found[name, d] = max(
                (sweeps.mean_and_interval(sweeps.accuracies(g) or [0.0]), lr) for lr, g in groups.items()
            )
    deepest_first = sorted(inits, key=lambda name: -sum(found[name, d][0][0] for d in depths))
    return Findings(
        f"Validation accuracy after {epochs} epochs by number of layers, each at the best of lr {', '.join(shown)}; "
        f"means over {seeds} seeds:",
        ["init", *map(str, depths)],
        [[name, *(found[name, d][0][0] for d in depths)] for name in deepest_first],
        {"depth": _picture(deepest_first, depths, found, width, epochs, seeds)},
        {f"accuracy by layers/{name}": {d: found[name, d][0][0] for d in depths} for name in inits},
        [
            {"init": name, "layers": d, "best lr": lr, "mean": mean, "half interval": half}
            for (name, d), ((mean, half), lr) in found.items()
        ],
    )


def _picture(inits: Sequence[str], depths: Sequence[int], found: dict, width: int, epochs: int, seeds: int):
    from matplotlib.figure import Figure

    fig = Figure(figsize=(3.5 + 0.9 * len(depths), 1.8 + 0.5 * len(inits)), layout="constrained")
    ax = fig.subplots()
    values = [[found[name, d][0][0] for d in depths] for name in inits]
    image = ax.imshow(values, vmin=0.5, vmax=1, cmap="viridis", aspect="auto")
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            ax.text(x, y, f"{value:.3f}", ha="center", va="center", color="black" if value > 0.8 else "white")
    ax.set_xticks(range(len(depths)), depths)
    ax.set_yticks(range(len(inits)), inits)
    ax.set_xlabel(f"linear layers ({width} units each, ReLU between)")
    ax.set_ylabel("init")
    ax.set_title(f"Which init still trains? After {epochs} epochs, {seeds} seeds")
    fig.colorbar(image, label="validation accuracy, mean")
    return fig
