"""Fused sweeps: whole commands, start-up included, beside the basic launcher and beside one job."""

from __future__ import annotations

from statistics import median

from benchmarks.measure import alternate, train_seconds

TEN = ["model=linear", "trainer.max_epochs=10", "seed=range(0,10)"]
HUNDRED = [*TEN, "optim.lr=0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1"]
THOUSAND = [*TEN, f"optim.lr={','.join(f'{k / 100:g}' for k in range(1, 101))}"]


def main() -> None:
    print(f"{'whole command':<28} {'other':>9} {'fused':>9}   {'ratio':<18} goal   (s)")
    sides = {
        "one": lambda: train_seconds("model=linear", "trainer.max_epochs=10"),
        "fused": lambda: train_seconds("-m", "hydra/launcher=fused", *HUNDRED),
        "large": lambda: train_seconds("-m", "hydra/launcher=fused", *THOUSAND),
    }
    one, fused, large = map(median, alternate(sides, 3).values())
    basic = train_seconds("-m", *HUNDRED)
    basic_large = one + (basic - one) * 999 / 99
    show("100 linear jobs, basic", basic, fused, f"{basic / fused:5.1f} × faster", "≥ 8")
    show("1,000, basic (100 scaled)", basic_large, large, f"{basic_large / large:5.1f} × faster", "≥ 25")
    show("100 linear jobs, one job", one, fused, f"{fused / one:5.2f} × its time", "≤ 1.5")
    show("1,000 jobs, 100 jobs", fused, large, f"{large / fused:5.2f} × their time", "")


def show(title: str, other: float, fused: float, ratio: str, goal: str) -> None:
    print(f"{title:<28} {other:9.1f} {fused:9.1f}   {ratio:<18} {goal}", flush=True)
