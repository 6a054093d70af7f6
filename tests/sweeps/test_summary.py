"""Summaries hold what the jobs left, and intervals are Student's."""

import csv
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from seedbed.statistics import interval, t_quantile
from seedbed.sweeps.records import Job, read
from seedbed.sweeps.summary import best_table, combinations, swept, write

ROOT = Path(__file__).resolve().parents[2]


def job(number=0, accuracy=None, loss=None, status="completed", **values):
    metrics = {"status": status, "val/accuracy": accuracy, "val/loss": loss}
    return Job(number, str(number), {key.replace("__", "."): value for key, value in values.items()}, metrics)


def leave(sweep, folder, overrides, metrics=None):
    """What a job of a sweep leaves, as Hydra and seedbed.training.run write it."""
    (sweep / folder / ".hydra").mkdir(parents=True)
    (sweep / folder / ".hydra" / "overrides.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(overrides)), "utf-8")
    if metrics is not None:
        (sweep / folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")


def lines(sweep):
    with open(sweep / "summary.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tables(sweep):
    """summary.md's tables by heading: lists of {column: cell}."""
    found = {}
    for part in (sweep / "summary.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        rows = [[cell.strip() for cell in line[1:-1].split(" | ")] for line in part.splitlines() if line[:1] == "|"]
        found[part.splitlines()[0]] = [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
    return found


@pytest.fixture
def realistic(tmp_path):
    """2 learning rates × 2 inits × 3 seeds; one job diverged, one failed, one never wrote its metrics."""
    (tmp_path / "multirun.yaml").write_text("hydra: {}\n")
    (tmp_path / "pictures").mkdir()
    grid = [(lr, init, seed) for lr in ("0.1", "1") for init in ("default", "kaiming_normal") for seed in range(3)]
    for number, (lr, init, seed) in enumerate(grid):
        metrics = {"status": "completed", "val/loss": 0.1 / (number + 1), "val/accuracy": 0.96 + number / 1000}
        metrics |= {"train/loss": 1 / 3, "lr": 0.1, "epochs": 1, "steps": 49, "fit_seconds": 0.125, "seed": seed}
        if number == 9:
            metrics |= {"status": "diverged", "val/loss": None, "val/accuracy": None}
        if number == 10:
            metrics = {"status": "failed", "val/loss": None, "val/accuracy": None, "seed": seed}
        words = [f"optim.lr={lr}", f"init={init}", f"seed={seed}", "model=linear"]
        leave(tmp_path, f"{number},optim.lr={lr},init={init},seed={seed}", words, None if number == 11 else metrics)
    return tmp_path


# --- intervals


@pytest.mark.parametrize(
    ("df", "known"), [(1, 12.706), (2, 4.303), (4, 2.776), (8, 2.306), (9, 2.262), (30, 2.042), (120, 1.980)]
)
def test_t_quantile_is_the_tabulated_one(df, known):
    assert t_quantile(df) == pytest.approx(known, abs=5e-4)


@pytest.mark.parametrize("df", [*range(1, 41), 100, 1000])
def test_t_distribution_has_95_percent_within_its_quantile(df):
    """By Simpson's rule: with t = √df·tan θ its density is proportional to cos(θ)^(df − 1)."""

    def mass(end, n=4000):
        ys = [math.cos(end * k / n) ** (df - 1) for k in range(n + 1)]
        return end / n / 3 * (ys[0] + 4 * sum(ys[1::2]) + 2 * sum(ys[2:-1:2]) + ys[-1])

    assert mass(math.atan(t_quantile(df) / math.sqrt(df))) / mass(math.pi / 2) == pytest.approx(0.95, abs=2e-6)


def test_t_quantile_approaches_the_normal_one():
    assert t_quantile(10**7) == pytest.approx(1.959964, abs=1e-6)


def test_t_quantile_of_no_degrees_of_freedom_is_an_error():
    with pytest.raises(ValueError, match="got 0"):
        t_quantile(0)


def test_interval_is_the_one_computed_by_hand():
    """1 … 5: s = √2.5, so 2.776445·√2.5/√5 = 1.963243; and 4.302653·0.002/√3 = 0.004968."""
    assert interval([1, 2, 3, 4, 5]) == (3, pytest.approx(1.963243, abs=1e-6))
    assert interval([0.968, 0.970, 0.972]) == (pytest.approx(0.970), pytest.approx(0.0049683, abs=1e-7))


def test_one_number_has_no_interval_and_equal_numbers_one_of_0():
    assert interval([0.98]) == (0.98, None)
    assert interval([0.98] * 4) == (0.98, 0)


def test_interval_holds_the_true_mean_95_times_in_100():
    noise = random.Random(0)
    found = [interval([noise.gauss(0, 1) for _ in range(4)]) for _ in range(4000)]
    assert sum(abs(mean) <= half for mean, half in found) / 4000 == pytest.approx(0.95, abs=0.012)


# --- reading


def test_jobs_are_read_with_their_values_and_metrics_in_the_order_of_their_numbers(realistic):
    jobs = read(realistic)
    assert [j.number for j in jobs] == list(range(12))
    assert jobs[7].folder == "7,optim.lr=1,init=default,seed=1"
    assert jobs[7].values == {"optim.lr": 1, "init": "default", "seed": 1, "model": "linear"}
    assert jobs[7].metrics["val/accuracy"] == 0.96 + 7 / 1000
    assert [j.status for j in jobs] == ["completed"] * 9 + ["diverged", "failed", "interrupted"]
    assert jobs[11].metrics == {}


@pytest.mark.parametrize(
    "typed",
    [
        *(
            "optim.lr=0.1",
            "optim.lr=1e-3",
            "optim.lr=1e-05",
            "optim.lr=.5",
            "optim.lr=1",
            "optim.lr=1.0",
            "optim.lr=inf",
        ),
        *("data.shuffle=False", "data.shuffle=true", "data.root=null", "data.root=", "data.root=yes", "+extra.key=x"),
        *(
            "data.root='/a b/it\\'s'",
            'data.root="/a: b #c"',
            "data.root='/ä/ö=ü'",
            "data.root='1'",
            "data.root=a/b-c_d.e",
        ),
        "data.root='" + "/long folder" * 20 + "'",
    ],
)
def test_value_is_read_as_hydra_reads_it(tmp_path, typed):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    hydras = OverridesParser.create().parse_override(typed)
    leave(tmp_path, "0", [typed, "seed=1"])
    assert repr(read(tmp_path)[0].values) == repr({hydras.key_or_group: hydras.value(), "seed": 1})


def test_lists_stay_as_typed(tmp_path):
    leave(tmp_path, "0", ["model.hidden=[128,64]", "+extra={a:1,b:2}"])
    assert read(tmp_path)[0].values == {"model.hidden": "[128,64]", "extra": "{a:1,b:2}"}


def test_job_without_overrides_is_a_job(tmp_path):
    leave(tmp_path, "0", [])
    assert read(tmp_path) == [Job(0, "0", {}, {})]


def test_folders_without_leading_numbers_are_numbered_by_name(tmp_path):
    for name in ("lr=0.1", "lr=0.01", "3rd"):
        leave(tmp_path, name, [])
    assert [(j.number, j.folder) for j in read(tmp_path)] == [(0, "3rd"), (1, "lr=0.01"), (2, "lr=0.1")]


# --- what was swept


def test_keys_that_differ_are_swept_and_of_one_job_all():
    jobs = [job(optim__lr=0.1, model="linear", seed=0), job(optim__lr=0.1, model="linear", seed=1)]
    assert swept(jobs) == ["seed"]
    assert swept(jobs[:1]) == ["optim.lr", "model", "seed"]
    assert swept([job(a=1), job(a=1, b=2)]) == ["b"]
    assert swept([]) == []


def test_combinations_are_the_swept_values_without_the_seeds_best_mean_first():
    values = {(0.1, 0): 0.5, (0.1, 1): 0.7, (1, 0): 0.9, (1, 1): 0.8, (10, 0): None}
    jobs = [job(n, a, optim__lr=lr, seed=s, data__seed=s + 7) for n, ((lr, s), a) in enumerate(values.items())]
    found = combinations(jobs, "val/accuracy")
    assert [(c.values, c.numbers) for c in found] == [(["1"], [0.9, 0.8]), (["0.1"], [0.5, 0.7]), (["10"], [])]


def test_a_list_can_be_swept():
    found = combinations([job(0, 0.5, hidden=[128, 64]), job(1, 0.6, hidden=[30])], "val/accuracy")
    assert [c.values for c in found] == [["[30]"], ["[128,64]"]]


# --- writing


def test_csv_reads_back_the_exact_values(realistic):
    jobs = read(realistic)
    write(realistic, jobs)
    rows = lines(realistic)
    assert list(rows[0]) == [
        *("job", "folder", "status", "optim.lr", "init", "seed"),
        *("val/accuracy", "val/loss", "train/loss", "epochs", "steps"),
    ]
    for row, j in zip(rows, jobs, strict=True):
        assert (int(row["job"]), row["folder"], row["status"]) == (j.number, j.folder, j.status)
        assert (float(row["optim.lr"]), row["init"]) == (j.values["optim.lr"], j.values["init"])
        for name in list(row)[6:]:
            assert (float(row[name]) if row[name] else None) == j.metrics.get(name)


def test_csv_has_columns_for_the_metrics_that_there_are_and_no_seconds(tmp_path):
    tested = Job(0, "0", {"a": True}, {"status": "completed", "test/accuracy": 0.5, "test/loss": 0.1, "fit_seconds": 2})
    write(tmp_path, [tested], "test/loss")
    header, line = (tmp_path / "summary.csv").read_text().splitlines()
    assert header == "job,folder,status,a,test/accuracy,test/loss,epochs,steps"
    assert line == "0,0,completed,true,0.5,0.1,,"


def test_csv_quotes_what_has_commas_and_leaves_what_is_not_finite_empty(tmp_path):
    write(tmp_path, [Job(0, "0,a", {"model.hidden": [128, 64]}, {"val/accuracy": 0.5, "val/loss": math.nan})])
    (row,) = lines(tmp_path)
    assert (row["folder"], row["model.hidden"], row["val/loss"]) == ("0,a", "[128,64]", "")


def test_markdown_says_what_was_swept_and_what_became_of_the_jobs(realistic):
    write(realistic, read(realistic))
    head = (realistic / "summary.md").read_text(encoding="utf-8").split("\n\n")
    assert head[0] == "# optim.lr × init × seed: 12 jobs"
    assert head[1] == "9 completed, 1 diverged, 1 failed, 1 interrupted"
    assert head[2].splitlines() == [
        "- optim.lr: 0.1, 1",
        "- init: default, kaiming_normal",
        "- seed: 0, 1, 2",
        "- in every job: model=linear",
    ]


def test_markdown_has_means_over_seeds_best_first(realistic):
    """Accuracies 0.966, 0.967, 0.968: s = 0.001, and 4.302653·0.001/√3 = 0.00248."""
    write(realistic, read(realistic))
    first, second, third, none = tables(realistic)["val/accuracy"]
    assert first == {
        "optim.lr": "1",
        "init": "default",
        "seeds": "3",
        "mean": "0.9670",
        "± 95 %": "0.0025",
        "min": "0.9660",
        "max": "0.9680",
        "not completed": "",
    }
    assert (second["init"], second["mean"]) == ("kaiming_normal", "0.9640")
    assert (third["init"], third["mean"]) == ("default", "0.9610")
    assert (none["seeds"], none["mean"], none["± 95 %"]) == ("0", "–", "–")
    assert none["not completed"] == "1 diverged, 1 failed, 1 interrupted"


def test_markdown_lists_the_best_jobs_and_those_that_did_not_complete(realistic):
    write(realistic, read(realistic))
    found = tables(realistic)
    assert [(row["rank"], row["job"].split(",")[0]) for row in found["Best jobs"]][:2] == [("1", "8"), ("2", "7")]
    assert len(found["Best jobs"]) == 9
    assert [row["status"] for row in found["Not completed"]] == ["diverged", "failed", "interrupted"]


def test_diverged_job_with_an_accuracy_counts_in_the_mean_and_one_with_a_null_loss_does_not(tmp_path):
    jobs = [job(0, 0.9, 0.1, seed=0), job(1, 0.7, None, "diverged", seed=1)]
    for metric, seeds, mean in (("val/accuracy", "2", "0.8000"), ("val/loss", "1", "0.1000")):
        write(tmp_path, jobs, metric)
        (row,) = tables(tmp_path)[metric]
        assert (row["seeds"], row["mean"], row["not completed"]) == (seeds, mean, "1 diverged")


def test_complete_sweep_has_no_list_of_what_did_not_complete(tmp_path):
    write(tmp_path, [job(0, 0.9, seed=0), job(1, 0.8, seed=1)])
    assert tables(tmp_path).keys() == {"val/accuracy", "Best jobs"}
    assert "not completed" not in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_one_job_is_a_sweep(tmp_path):
    write(tmp_path, [job(0, 0.9, optim__lr=0.1, seed=3)])
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").startswith("# optim.lr × seed: 1 job\n\n1 completed")
    (row,) = tables(tmp_path)["val/accuracy"]
    assert (row["optim.lr"], row["seeds"], row["mean"], row["± 95 %"]) == ("0.1", "1", "0.9000", "–")
    (row,) = lines(tmp_path)
    assert (row["optim.lr"], row["seed"]) == ("0.1", "3")


def test_jobs_without_any_metric_and_no_jobs_at_all_are_summarised(tmp_path):
    write(tmp_path, [Job(0, "0", {"seed": 0}, {}), Job(1, "1", {"seed": 1}, {})])
    assert tables(tmp_path).keys() == {"val/accuracy", "Not completed"}
    write(tmp_path, [])
    assert (tmp_path / "summary.md").read_text().startswith("# One configuration: 0 jobs")
    assert lines(tmp_path) == []


def test_sweep_without_classes_is_ranked_by_its_loss(tmp_path):
    jobs = [job(0, loss=2.0, optim__lr=0.1), job(1, loss=1.0, optim__lr=0.2)]
    write(tmp_path, jobs)
    assert [row["job"] for row in tables(tmp_path)["Best jobs"]] == ["1", "0"]
    assert "val/loss" in tables(tmp_path) and "val/loss" in best_table(jobs)


def test_of_more_than_200_combinations_the_best_200_are_shown(tmp_path):
    write(tmp_path, [job(n, n / 1000, optim__lr=n + 0.5) for n in range(250)])
    rows = tables(tmp_path)["val/accuracy"]
    assert (len(rows), rows[0]["optim.lr"], rows[-1]["optim.lr"]) == (200, "249.5", "50.5")
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert "50 more combinations are left out" in text and "- optim.lr: 0.5 … 249.5 (250 values)" in text


def test_tables_are_aligned_as_text_and_pipes_do_not_break_them(tmp_path):
    write(tmp_path, [job(0, 0.9, root="a|b"), job(1, 0.75, root="abcdef")])
    text = (tmp_path / "summary.md").read_text(encoding="utf-8")
    table = [line for line in text.split("## Best jobs")[1].splitlines() if line]
    assert len({len(line) for line in table}) == 1
    assert "| a\\|b   |" in table[2] and table[1].startswith("| ---: | --: | ------ | ")


def test_small_and_large_numbers_keep_their_digits(tmp_path):
    jobs = [job(n, loss=loss, lr=n) for n, loss in enumerate([0.000123456, 0.00120, 0.0, 2.5, 3.2e7])]
    write(tmp_path, jobs, "val/loss")
    found = [row["val/loss"] for row in tables(tmp_path)["Best jobs"]]
    assert found == ["0.0000", "0.000123", "0.00120", "2.5000", "3.20e+07"]


def test_interval_has_the_decimals_of_its_mean(tmp_path):
    write(tmp_path, [job(n, 0.97 + n / 1e4, n / 1e5 + 0.001, seed=n) for n in range(2)])
    assert tables(tmp_path)["val/accuracy"][0]["± 95 %"] == "0.0006"
    write(tmp_path, [job(n, loss=n / 1e5 + 0.001, seed=n) for n in range(2)], "val/loss")
    assert tables(tmp_path)["val/loss"][0]["± 95 %"] == "6.35e-05"


def test_writing_twice_gives_the_same_bytes_and_leaves_nothing_else(realistic):
    before = set(realistic.iterdir())
    contents = []
    for _ in range(2):
        write(realistic, read(realistic))
        contents.append([(realistic / f"summary.{kind}").read_bytes() for kind in ("csv", "md")])
    assert contents[0] == contents[1]
    assert {path.name for path in set(realistic.iterdir()) - before} == {"summary.csv", "summary.md"}


# --- the terminal's table


def test_best_table_is_aligned_text():
    jobs = [job(0, 0.9, optim__lr=0.1, init="default"), job(1, 0.95, status="diverged", optim__lr=10, init="lsuv")]
    assert best_table(jobs).splitlines() == [
        "rank  job  optim.lr  init     val/accuracy  status",
        "   1    1        10  lsuv           0.9500  diverged",
        "   2    0       0.1  default        0.9000  completed",
    ]


def ranked(jobs, *args, **kwargs):
    return [line.split()[1] for line in best_table(jobs, *args, **kwargs).splitlines()[1:]]


def test_best_is_largest_for_an_accuracy_and_smallest_for_a_loss():
    jobs = [job(n, accuracy, loss, seed=n) for n, (accuracy, loss) in enumerate([(0.9, 0.3), (0.8, 0.1), (0.7, 0.2)])]
    assert ranked(jobs) == ["0", "1", "2"]
    assert ranked(jobs, "val/loss") == ["1", "2", "0"]
    assert ranked(jobs, "val/loss", count=1) == ["1"]


def test_jobs_without_the_metric_are_not_among_the_best_and_equals_keep_their_order():
    jobs = [job(0, None, seed=0), job(1, 0.5, seed=1), Job(2, "2", {"seed": 2}, {}), job(3, 0.5, seed=3)]
    assert ranked(jobs) == ["1", "3"]
    assert best_table(jobs[:1]) == "no job has a val/accuracy"


# --- sweeps, large and real


@pytest.mark.slow
def test_sweep_of_10000_jobs_is_read_and_written(tmp_path):
    text = (
        '{{"status": "completed", "val/accuracy": {}, "val/loss": 0.1, "epochs": 1, "steps": 49, "fit_seconds": 0.1}}'
    )
    for number in range(10_000):
        (tmp_path / f"{number}" / ".hydra").mkdir(parents=True)
        overrides = f"- optim.lr={number // 20 / 100}\n- seed={number % 20}\n"
        (tmp_path / f"{number}" / ".hydra" / "overrides.yaml").write_text(overrides)
        (tmp_path / f"{number}" / "metrics.json").write_text(text.format(number / 10_000))
    jobs = read(tmp_path)
    write(tmp_path, jobs)
    assert [int(row["job"]) for row in lines(tmp_path)] == list(range(10_000))
    assert tables(tmp_path)["val/accuracy"][0] == {
        **{"optim.lr": "4.99", "seeds": "20", "mean": "0.9990", "± 95 %": "0.0003", "min": "0.9980", "max": "0.9999"}
    }
    assert ranked(jobs, count=3) == ["9999", "9998", "9997"]


def test_real_sweep_is_summarised(tmp_path):
    words = [
        "-m",
        "optim.lr=0.1,1",
        "seed=range(0,3)",
        "trainer.max_epochs=1",
        "model=linear",
        "trainer.accelerator=cpu",
    ]
    command = [sys.executable, str(ROOT / "train.py"), *words, f"hydra.sweep.dir={tmp_path}/sweep"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=300)
    sweep = tmp_path / "sweep"
    write(sweep, read(sweep))
    rows = lines(sweep)
    assert [(row["optim.lr"], row["seed"]) for row in rows] == [(lr, s) for lr in ("0.1", "1") for s in "012"]
    assert {(row["status"], row["epochs"], row["steps"]) for row in rows} == {("completed", "1", "49")}
    for row in rows:
        metrics = json.loads((sweep / row["folder"] / "metrics.json").read_text())
        assert {name: float(row[name]) for name in ("val/accuracy", "val/loss", "train/loss")} == {
            name: metrics[name] for name in ("val/accuracy", "val/loss", "train/loss")
        }
    means = tables(sweep)["val/accuracy"]
    assert [(row["optim.lr"], row["seeds"]) for row in means] == [("1", "3"), ("0.1", "3")]
    assert all(float(row["min"]) <= float(row["mean"]) <= float(row["max"]) for row in means)
    assert float(means[-1]["mean"]) > 0.95


def test_import_brings_nothing_heavy():
    code = "import seedbed.sweeps.summary, sys; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not set(loaded) & {"torch", "lightning", "hydra", "omegaconf", "numpy", "pandas", "tensorboard"}
