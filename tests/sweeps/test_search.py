"""Searches: Optuna's trials are jobs of a sweep, which can be killed and resumed."""

import json
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser

import seedbed
from seedbed.api import CONF
from seedbed.errors import ConfigError, Interrupted, Refusal
from seedbed.startup.command import VERSION_BASE
from seedbed.sweeps.choices import SAMPLERS, register_choices
from seedbed.sweeps.manifest import Manifest
from seedbed.sweeps.states import read_metrics

try:
    OPTUNA = int(version("optuna").split(".")[0])
except PackageNotFoundError:
    OPTUNA = 0
pytestmark = pytest.mark.skipif(OPTUNA < 4, reason='needs Optuna 4 or later: pip install -e ".[optuna]"')

CONFIG = """
defaults: [_self_, part: a]
x: 1.0
y: 0
seed: 0
fail_above: 9
optimized_metric: val/loss
resume: null
extend: false
on_error: continue
retries: 0
hydra: {mode: MULTIRUN, sweep: {subdir: "${hydra.job.num}"}}
"""
SPACE = ["x=interval(0,3)", "y=range(-1,2)", "part=choice(a,b)"]
SEARCH = [*SPACE, "hydra.sweeper.n_trials=6", "hydra.sweeper.n_jobs=2"]


@pytest.fixture(scope="module")
def conf(tmp_path_factory):
    conf = tmp_path_factory.mktemp("conf")
    (conf / "config.yaml").write_text(CONFIG)
    (conf / "part").mkdir()
    for value, name in enumerate("ab"):
        (conf / "part" / f"{name}.yaml").write_text(f"value: {value}\n")
    return conf


@pytest.fixture
def search(conf):
    """search(folder, *overrides): the search of a task that costs nothing; its best is x=2, y=0, part=a.

    stop_at: the number of the job at which the process is killed.
    """

    def run(folder: Path, *overrides: str, stop_at: int | None = None) -> Path:
        def task(cfg) -> float:
            if HydraConfig.get().job.num == stop_at:
                raise KeyboardInterrupt
            if cfg.x > cfg.fail_above:
                raise ValueError("x is too large")
            loss = (cfg.x - 2) ** 2 + cfg.y**2 + cfg.part.value
            metrics = {"status": "completed", "val/loss": loss, "val/accuracy": -loss}
            Path(HydraConfig.get().runtime.output_dir, "metrics.json").write_text(json.dumps(metrics))
            return metrics[cfg.optimized_metric]

        register_choices()
        words = ["hydra/sweeper=optuna", f"hydra.sweep.dir='{folder}'", *overrides]
        with initialize_config_dir(str(conf), **VERSION_BASE):
            GlobalHydra.instance().hydra.multirun("config", task, words)
        return folder

    return run


def trials(folder: Path, metric: str = "val/loss") -> dict[int, tuple[list[str], float | None]]:
    """Return number → (overrides, metric)."""
    jobs = Manifest(folder).jobs
    return {
        n: (line["overrides"], (read_metrics(folder / line["folder"]) or {}).get(metric)) for n, line in jobs.items()
    }


def best(folder: Path) -> dict:
    return yaml.safe_load((folder / "optimization_results.yaml").read_text())


def is_in_space(line: str) -> bool:
    (override,) = OverridesParser.create().parse_overrides([line])
    allowed = {"x": lambda x: 0 <= x <= 3, "y": (-1, 0, 1).__contains__, "part": "ab".__contains__}
    return allowed[override.key_or_group](override.value())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_search_draws_from_the_space_and_resumes_exactly(search, tmp_path, sampler):
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    words = [*SEARCH, f"hydra/sweeper/sampler={sampler}", "seed=3"]
    words += ["hydra.sweeper.sampler.n_startup_trials=2"] * (sampler != "random")
    whole = trials(search(tmp_path / "whole", *words))
    assert list(whole) == list(range(6)) and len({str(lines) for lines, _ in whole.values()}) > 4
    assert all(line == "seed=3" or is_in_space(line) for lines, _ in whole.values() for line in lines)
    with pytest.raises(Interrupted):
        search(tmp_path / "killed", *words, stop_at=3)
    assert trials(tmp_path / "killed").keys() == set(range(4))
    assert trials(search(tmp_path / "killed", *words)) == whole
    assert best(tmp_path / "killed") == best(tmp_path / "whole")
    assert (tmp_path / "whole/multirun.yaml").exists()


def test_best_is_the_best_and_near_the_optimum(search, tmp_path):
    found = trials(search(tmp_path / "down", *SPACE, "hydra.sweeper.n_trials=30", "hydra.sweeper.n_jobs=5"))
    number = min(found, key=lambda n: found[n][1])
    result = best(tmp_path / "down")
    assert result["best_value"] == found[number][1] < 0.05
    assert [f"{key}={value}" for key, value in result["best_params"].items()] == found[number][0]
    assert result["best_params"]["part"] == "a" and result["best_params"]["y"] == 0
    up = trials(search(tmp_path / "up", *SEARCH, "optimized_metric=val/accuracy"), "val/accuracy")
    assert best(tmp_path / "up")["best_value"] == max(accuracy for _, accuracy in up.values())


def test_manifest_holds_where_a_result_has_changed(search, tmp_path):
    words = [*SEARCH, "fail_above=1.5", "hydra.sweeper.sampler.n_startup_trials=1", "hydra.sweeper.n_jobs=1"]
    before = trials(search(tmp_path / "sweep", *words))
    failed = next(n for n, (_, loss) in before.items() if loss is None)
    assert failed < 4  # others were proposed after it
    # what made it fail has gone
    (tmp_path / f"sweep/{failed}/metrics.json").write_text('{"status": "completed", "val/loss": 0.001}')
    after = trials(search(tmp_path / "sweep", *words))
    assert {n: lines for n, (lines, _) in after.items()} == {n: lines for n, (lines, _) in before.items()}
    assert best(tmp_path / "sweep")["best_value"] == 0.001
    assert [f"{key}={value}" for key, value in best(tmp_path / "sweep")["best_params"].items()] == before[failed][0][:3]


def test_search_is_extended(search, tmp_path):
    words = ["part=choice(a,b)", "hydra.sweeper.n_jobs=3"]
    before = trials(search(tmp_path / "sweep", *words, "hydra.sweeper.n_trials=3"))
    after = trials(search(tmp_path / "sweep", *words, "hydra.sweeper.n_trials=6", "extend=true"))
    assert before.items() <= after.items()
    assert best(tmp_path / "sweep")["best_value"] == min(loss for _, loss in after.values())


def test_stored_study_goes_on_with_new_trials(search, tmp_path):
    import optuna

    stored = [f"hydra.sweeper.storage='sqlite:///{tmp_path}/search.db'", "hydra.sweeper.study_name=mine"]
    words = [*SEARCH, *stored, "hydra/sweeper/sampler=random"]
    first = trials(search(tmp_path / "first", *words))
    with pytest.raises(Interrupted):
        search(tmp_path / "second", *words, stop_at=3)
    second = trials(search(tmp_path / "second", *words))
    proposed = [str(lines) for found in (first, second) for lines, _ in found.values()]
    assert len(proposed) == len(set(proposed)) == 12
    study = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path}/search.db")
    assert [t.value for t in study.trials] == [loss for found in (first, second) for _, loss in found.values()]
    assert best(tmp_path / "second")["best_value"] == study.best_value
    with pytest.raises(Refusal) as refusal:
        search(tmp_path / "third", *words, "optimized_metric=val/accuracy")
    assert str(refusal.value) == "hydra.sweeper.study_name=mine: that study is not one to maximize val/accuracy"
    assert not (tmp_path / "third").exists()


def test_failures_end_a_search_where_they_are_said_to(search, tmp_path, capsys):
    def ends(*words: str) -> int:
        folder = tmp_path / words[-1]
        with pytest.raises(SystemExit) as end:
            search(folder, *SEARCH, *words)
        assert end.value.code == 1
        return len([n for n, (_, loss) in trials(folder).items() if (folder / str(n)).exists()])

    assert ends("hydra.sweeper.max_failure_rate=0", "fail_above=1.5") == 2
    assert "1 of 2 trials failed, more than hydra.sweeper.max_failure_rate allows" in capsys.readouterr().out
    assert ends("fail_above=-1") == 6
    assert "no trial has a finite val/loss" in capsys.readouterr().out
    assert ends("on_error=stop", "fail_above=-1.5") == 1


NUMBERS = {
    "interval(1,10)": "FloatDistribution(high=10.0, log=False, low=1.0, step=None)",
    "int(interval(1,10))": "IntDistribution(high=10, log=False, low=1, step=1)",
    "tag(log,interval(1e-7,1e-2))": "FloatDistribution(high=0.01, log=True, low=1e-07, step=None)",
    "range(1,10,4)": "IntDistribution(high=9, log=False, low=1, step=4)",
    "range(9,1,-3)": "IntDistribution(high=9, log=False, low=3, step=3)",
    "range(0,1,0.25)": "FloatDistribution(high=0.75, log=False, low=0.0, step=0.25)",
}
VALUES = {
    "choice(a,'b c',1.5,[1,{x:2}],true)": ["a", "b c", 1.5, [1, {"x": 2}], True],
    "null,a/b,1e-3": [None, "a/b", 1e-3],
}


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_are_drawn_from_what_hydra_would_sweep(text):
    from seedbed.sweeps.search import distribution

    assert str(distribution(*OverridesParser.create().parse_overrides([f"x={text}"]))) == NUMBERS[text]


@pytest.mark.parametrize("text", VALUES)
def test_choices_are_kept_as_one_types_them(text):
    from seedbed.sweeps.search import distribution

    parser = OverridesParser.create()
    choices = distribution(*parser.parse_overrides([f"x={text}"])).choices
    assert [o.value() for o in parser.parse_overrides([f"x={choice}" for choice in choices])] == VALUES[text]
    shuffled = distribution(*parser.parse_overrides(["x=shuffle(choice(1,2,3,4,5,6,7,8))"]))
    assert shuffled.choices == tuple("12345678")


def test_command_line_beats_params_and_fixes_a_key(search, tmp_path):
    words = ["hydra.sweeper.params={x:'interval(0,1)',y:'range(0,9)'}", "x=interval(2,3)", "y=5"]
    found = trials(search(tmp_path, *words, "hydra.sweeper.n_trials=4"))
    assert all("y=5" in lines and float(lines[0].removeprefix("x=")) >= 2 for lines, _ in found.values())


def test_nothing_to_search_is_refused(search, tmp_path):
    with pytest.raises(Refusal, match="nothing to search"):
        search(tmp_path / "sweep", "y=1")
    assert not (tmp_path / "sweep").exists()


# --- with real training


def sweep(folder: Path, *overrides: str) -> Path:
    return seedbed.sweep(
        "hydra/launcher=fused", f"hydra.sweep.dir={folder}", "trainer.accelerator=cpu", *overrides
    ).folder


def test_each_batch_is_a_stack_and_a_diverging_trial_a_failed_one(tmp_path):
    words = [
        "experiment=search_mlp",
        "hydra.sweeper.n_trials=5",
        "hydra.sweeper.n_jobs=3",
        "trainer.max_epochs=1",
        "seed=1",
    ]
    sweep(tmp_path, *words, "loss=mse", "optimized_metric=val/loss", "optim.lr=choice(0.01,1e9)")
    jobs = [tmp_path / line["folder"] for line in Manifest(tmp_path).jobs.values()]
    metrics = [read_metrics(job) for job in jobs]
    assert {m["status"] for m in metrics} == {"completed", "diverged"}
    assert all("one of 3 runs of a stack" in (job / "train.log").read_text() for job in jobs[:3])
    assert best(tmp_path)["best_params"]["optim.lr"] == 0.01
    assert best(tmp_path)["best_value"] == min(m["val/loss"] for m in metrics if m["val/loss"] is not None)
    assert (tmp_path / "summary.csv").read_text().count("\n") == 6


def test_jobs_are_named_by_the_search_space_even_one_by_one(tmp_path):
    words = ["model=choice(linear,mlp)", "optim.lr=tag(log,interval(0.01,1))", "trainer.max_epochs=0"]
    one_by_one = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=1"]
    sweep(tmp_path, *words, *one_by_one)
    folders = [line["folder"] for line in Manifest(tmp_path).jobs.values()]
    assert all(re.fullmatch(rf"0{n}-(linear|mlp)-lr0\.\d+", name) for n, name in enumerate(folders))
    assert json.loads((tmp_path / "columns.json").read_text()) == {"model": "text", "optim.lr": "number"}


METRICS = {"data=mnist_sample": "val/accuracy", "data=function": "val/loss", "model=gan": "val/loss"}


@pytest.mark.parametrize("words", METRICS)
def test_metric_follows_from_the_task(words):
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        assert compose("config", [words]).optimized_metric == METRICS[words]
        assert compose("config", [words, "optimized_metric=train/loss"]).optimized_metric == "train/loss"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("data=function optimized_metric=val/accuracy", "val/accuracy: function has none"),
        ("model=gan optimized_metric=val/accuracy", "val/accuracy: gan has none"),
        ("optimized_metric=test/loss", "test/loss: mnist_sample has none"),
    ],
)
def test_task_without_the_metric_is_refused_before_any_training(tmp_path, words, message):
    with pytest.raises(ConfigError) as error:
        sweep(tmp_path / "sweep", "hydra/sweeper=optuna", *words.split(), "optim.lr=interval(0.1,1)")
    assert str(error.value) == f"optimized_metric={message}; choose val/loss or train/loss"
    assert not (tmp_path / "sweep").exists()
