"""Commands that train nothing, each beside the import that it needs."""

from __future__ import annotations

from functools import partial

from benchmarks.measure import alternate, command_seconds, print_header, print_row, train_seconds


def main(rounds: int = 5) -> None:
    print_header("whole command", "python", "seedbed", "ms")
    imports_hydra, imports_torch = (partial(command_seconds, "-c", f"import {name}") for name in ("hydra", "torch"))
    sides = {"python": imports_hydra, "seedbed": partial(command_seconds, "train.py", "--cfg", "job")}
    print_row("--cfg job (import hydra)", *alternate(sides, rounds).values(), "≤ 700 ms", scale=1e3)
    sides = {"python": imports_torch, "seedbed": partial(train_seconds, "trainer.max_epochs=0")}
    print_row("0 epochs (import torch)", *alternate(sides, rounds).values(), "", scale=1e3)
