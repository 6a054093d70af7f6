"""Optuna's batches of trials train as stacks, in one sweep that can be gone on with."""

import json
import logging
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.skipif(
    find_spec("hydra_plugins.hydra_optuna_sweeper") is None, reason='needs Optuna: pip install -e ".[optuna]"'
)
SEARCH = ["experiment=search_mlp", "hydra.sweeper.n_trials=7", "hydra.sweeper.n_jobs=3", "trainer.max_epochs=1"]


def trials(folder: Path) -> dict[int, tuple[list[str], float]]:
    """number → (overrides, val/accuracy)"""
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()[1:]]
    return {
        line["job"]: (
            line["overrides"],
            json.loads((folder / line["folder"] / "metrics.json").read_text())["val/accuracy"],
        )
        for line in lines
    }


@pytest.fixture(scope="module")
def searched(sweep):
    return sweep("fused", *SEARCH)


def best(folder: Path) -> float:
    return yaml.safe_load((folder / "optimization_results.yaml").read_text())["best_value"]


def test_each_batch_is_a_stack_and_the_best_is_maximal(searched):
    found = trials(searched)
    assert list(found) == list(range(7)) and len({tuple(words) for words, _ in found.values()}) == 7
    assert best(searched) == max(accuracy for _, accuracy in found.values())
    logs = [(searched / str(n) / "train.log").read_text() for n in range(6)]
    assert all("one of 3 runs of a stack" in log for log in logs)
    assert (searched / "summary.csv").read_text().count("\n") == 8


def test_search_goes_on_where_it_was_killed(sweep, searched, tmp_path, caplog):
    folder = shutil.copytree(searched, tmp_path / "sweep")
    for n in (4, 5, 6):
        shutil.rmtree(folder / str(n))
    lines = (folder / "manifest.jsonl").read_text().splitlines(keepends=True)
    (folder / "manifest.jsonl").write_text("".join(lines[:7]))  # the last batch had not been asked for
    kept = (folder / "3/metrics.json").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        sweep("fused", *SEARCH, folder=folder)
    assert trials(folder).keys() == trials(searched).keys() and (folder / "3/metrics.json").stat().st_mtime_ns == kept
    assert trials(folder)[3] == trials(searched)[3] and best(folder) == pytest.approx(best(searched), abs=1e-3)


def test_loss_is_minimised(sweep):
    words = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=3", "optimized_metric=val/loss", "trainer.max_epochs=1"]
    folder = sweep("fused", *words, "optim.lr=choice(0.01,1)")
    losses = [json.loads(path.read_text())["val/loss"] for path in folder.glob("*/metrics.json")]
    assert best(folder) == min(losses)


def test_diverging_trial_is_a_failed_one_and_the_search_goes_on(sweep):
    words = ["experiment=search", "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=3", "trainer.max_epochs=1"]
    folder = sweep("fused", *words, "loss=mse", "optimized_metric=val/loss", "optim.lr=choice(0.01,1e9)")
    found = [json.loads(path.read_text()) for path in folder.glob("*/metrics.json")]
    assert {m["status"] for m in found} == {"completed", "diverged"} and len(found) == 6
    assert yaml.safe_load((folder / "optimization_results.yaml").read_text())["best_params"] == {"optim.lr": 0.01}
