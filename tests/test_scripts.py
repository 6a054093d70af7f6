"""Scripts that no other test starts."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_scaling_prints_the_cost_of_each_part():
    done = subprocess.run([sys.executable, ROOT / "scripts/scaling.py", "4"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    parts = dict(
        line.rsplit("ms a job", 1)[0].rsplit(None, 1) for line in done.stdout.splitlines() if "ms a job" in line
    )
    assert {"compose", "event file", "metrics.json", "summary, read", "manifest.jsonl, read"} <= parts.keys()
    assert all(float(cost) > 0 for cost in parts.values())


def test_bench_names_its_subjects():
    done = subprocess.run([sys.executable, ROOT / "scripts/bench.py", "speed"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("speed: there is epoch, start, sweep")
