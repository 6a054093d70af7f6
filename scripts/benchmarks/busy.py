"""Ten epochs of `python train.py` beside two busy processes a core, as on a shared machine, and on an idle one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.measure import alternate, print_header, print_row, train_metrics


def main(rounds: int = 3) -> None:
    print_header("ten epochs, training alone", "idle", "busy", "s")
    for title, words in (("MLP", []), ("linear", ["model=linear"]), ("10 classes", ["experiment=mlp_10class"])):
        sides = {"idle": lambda words=words: seconds(words), "busy": lambda words=words: seconds_beside_others(words)}
        print_row(title, *alternate(sides, rounds).values(), "≤ 4.5")


def seconds(words: list[str]) -> float:
    return train_metrics(*words, "trainer.max_epochs=10")["fit_seconds"]


def seconds_beside_others(words: list[str]) -> float:
    with busy_processes(2 * (os.cpu_count() or 1)):
        return seconds(words)


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
