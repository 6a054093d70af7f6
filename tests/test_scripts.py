"""Scripts that no other test starts."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


def run(name: str, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, SCRIPTS / name, *arguments], capture_output=True, text=True)


def test_scaling_prints_the_cost_of_each_part():
    done = run("scaling.py", "4")
    assert done.returncode == 0, done.stderr
    lines = [line.split("  ") for line in done.stdout.splitlines() if line.endswith("ms per job")]
    parts = {words[0]: float(words[-1].split()[0]) for words in lines}
    assert {"compose", "event file", "metrics.json", "summary, read", "manifest.jsonl, read"} <= parts.keys()
    assert all(cost > 0 for cost in parts.values())


def test_bench_lists_its_subjects_and_refuses_others():
    subjects = {path.stem for path in (SCRIPTS / "benchmarks").glob("*.py")} - {"measure"}
    shown = run("bench.py", "--help").stdout
    assert "epoch" in subjects and all(f"\n    {subject} " in shown for subject in subjects)
    done = run("bench.py", "epoch", "speed")
    assert done.returncode == 2 and "speed: choose from epoch, start" in done.stderr


def test_the_tests_that_ci_selects_exist():
    selection = (SCRIPTS.parent / ".ci/selection").read_text().split()
    assert selection and all((SCRIPTS.parent / path).exists() for path in selection)
