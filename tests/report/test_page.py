"""The page of a sweep: everything in one file, every job accounted for."""

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seedbed.report.tables import p_value
from seedbed.report.write import write_report
from seedbed.statistics import paired_p

ROOT = Path(__file__).resolve().parents[2]


class Page(HTMLParser):
    """Tables as rows of cells, list items, captions, images and whatever is referred to."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.texts, self.images, self.references = [], [], [], [], []
        self.feed(text)
        assert not self.open, "a tag is not closed"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.references += [attributes[name] for name in ("href", "src") if name in attributes]
        if tag == "img":
            self.images.append(attributes["src"])
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data
        elif data.strip():
            self.texts.append(data)

    def table(self, *columns):
        """The rows, by column, of the tables that have these columns."""
        found = [rows for rows in self.tables if set(columns) <= set(rows[0])]
        return [dict(zip(rows[0], row, strict=True)) for rows in found for row in rows[1:]]


def report(folder, out=None, **options):
    out = out or folder
    return Page(write_report([folder], out, say=lambda text: None, **options).read_text("utf-8"))


def test_page_needs_nothing_but_itself(sweep):
    page = report(sweep)
    text = (sweep / "report.html").read_text("utf-8")
    assert "http:" not in text and "https:" not in text and "<script" not in text and "@import" not in text
    outside = [r for r in page.references if not r.startswith(("#", "data:image/png;base64,"))]
    assert outside and all(re.fullmatch(r"\d+/train\.log", reference) for reference in outside)
    anchors = set(re.findall(r'id="([^"]+)"', text))
    assert {r[1:] for r in page.references if r.startswith("#")} <= anchors


def test_pictures_in_the_page_are_the_files_beside_it_and_show_something(sweep):
    page = report(sweep)
    files = {path.name: path.read_bytes() for path in (sweep / "report").iterdir()}
    assert files.keys() == {
        *("effects.png", "heatmap.png", "parallel.png"),
        *("curves.png", "curves_model.png", "curves_optim.lr.png"),
    }
    embedded = [base64.b64decode(image.partition(",")[2]) for image in page.images]
    assert sorted(embedded) == sorted(files.values())
    for data in embedded:
        pixels = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
        assert pixels.shape[1] >= 800 and 0.005 < (pixels < 200).mean() < 0.6


def test_every_job_is_accounted_for(sweep):
    page = report(sweep)
    facts = " ".join(page.texts)
    assert "18 completed, 4 diverged, 2 interrupted" in facts
    assert "6 of 24 jobs have no val/accuracy and are in no mean" in facts
    statuses = [row["status"] for row in page.table("job", "status", "seed") if row["status"] != "completed"]
    assert sorted(statuses) == ["diverged"] * 4 + ["interrupted"] * 2
    by_value = {row["optim.lr"]: row["jobs"] for row in page.table("optim.lr", "jobs")}
    assert by_value["10"] == "4 completed, 4 diverged" and by_value["1"] == "7 completed, 1 interrupted"


def test_best_combination_has_its_mean_and_interval(sweep):
    """mlp at lr 1, seeds 0, 1, 3 (job 17 = 16 + 1 …): computed again from the files' numbers."""
    numbers = [0.9 + 0.02 + 0.01 + 0.001 * s + 0.0003 * (s * (16 + s) % 5) for s in range(4)]
    best = report(sweep).table("rank", "mean", "± 95 %")[0]
    assert (best["model"], best["optim.lr"], best["seeds"]) == ("mlp", "1", "4")
    assert best["mean"] == f"{np.mean(numbers):.4f}"
    assert best["± 95 %"] == f"{3.182446 * np.std(numbers, ddof=1) / 2:.4f}"


def test_comparison_is_the_paired_test_over_the_seeds(sweep):
    """The linear model has lr 1 with seeds 0, 2, 3, where the MLP (12 jobs later) has it too."""

    def accuracy(mlp, s):
        return 0.9 + 0.02 * mlp + 0.01 + 0.001 * s + 0.0003 * (s * (4 + 12 * mlp + s) % 5)

    d = np.array([accuracy(1, s) - accuracy(0, s) for s in (0, 2, 3)])
    row = next(row for row in report(sweep).table("better", "than") if row["better"] == "mlp")
    assert (row["than"], row["seeds"], row["by"]) == ("linear", "3", f"{d.mean():.4f}")
    assert row["p"] == row["p (Holm)"] == p_value(float(paired_p(d)))
    assert row["below 0.05"] == "yes"


def test_other_metric_turns_the_order_round(sweep, tmp_path):
    page = report(sweep, tmp_path / "sweep", metric="train/loss")
    assert "Metric: train/loss, lower is better." in page.texts


def test_sweep_without_accuracies_is_compared_by_its_loss(tmp_path, leave):
    for n in range(4):
        leave(tmp_path / str(n), [f"optim.lr={n // 2}", f"seed={n % 2}"], {"status": "completed", "val/accuracy": None,
              "val/loss": 0.5 + n})  # fmt: skip
    page = report(tmp_path)
    assert "No job has a val/accuracy: this report compares val/loss." in page.texts
    assert page.table("rank", "mean")[0]["mean"] == "1.0000"


def test_unknown_metric_is_answered_with_those_there_are(sweep):
    with pytest.raises(ValueError, match=r"no job has a val/f1; there are: val/accuracy, val/loss, train/loss, epochs"):
        report(sweep, metric="val/f1")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([["seed=0"]], "One configuration: 1 job"),
        ([["seed=0"], ["seed=1"], ["seed=2"]], "seed: 3 jobs"),
        ([["optim.lr=0.1"], ["optim.lr=1"]], "optim.lr: 2 jobs"),
        ([["model.hidden='<b>'"], ["model.hidden=[30,30]"]], "model.hidden: 2 jobs"),
    ],
)
def test_small_sweeps_have_a_page(tmp_path, leave, overrides, expected):
    for n, of_job in enumerate(overrides):
        quoted = [f'"{override}"' for override in of_job]
        leave(tmp_path / str(n), quoted, {"val/accuracy": 0.9 + n / 100}, {"val/accuracy": [0.8]})
    page = report(tmp_path)
    assert expected in page.texts
    assert any("one seed: no intervals" in text for text in page.texts) == ("seed: 3" not in expected)


def test_sweep_in_which_nothing_worked_says_so(tmp_path, leave):
    for n in range(3):
        leave(tmp_path / str(n), [f"optim.lr={n}"], {"status": "failed"} if n else None)
    page = report(tmp_path)
    assert "No job has a val/accuracy: there is nothing to compare." in page.texts
    assert len(page.table("job", "status")) == 3 and not page.images


def test_random_search_is_shown_job_by_job(tmp_path, leave):
    noise = np.random.default_rng(0)
    for n in range(60):
        overrides = [f"optim.lr={10 ** noise.uniform(-3, 0):.6f}", f"optim.weight_decay={noise.uniform():.6f}"]
        leave(tmp_path / str(n), overrides, {"status": "completed", "val/accuracy": noise.uniform()})
    page = report(tmp_path)
    assert any("hardly two jobs share" in text or "shares too few" in text for text in page.texts)
    assert (tmp_path / "report" / "parallel.png").exists() and not page.table("better", "than")


def test_group_with_a_slash_in_its_name_has_its_curves_in_the_same_folder(tmp_path, leave):
    for n in range(8):
        overrides = [f"model/head={'ab'[n // 4]}", f"optim.lr={1 + n // 2 % 2}", f"seed={n % 2}"]
        leave(tmp_path / str(n), overrides, {"val/accuracy": n / 10}, {"val/accuracy": [0.0, n / 10]})
    report(tmp_path)
    assert (tmp_path / "report" / "curves_model_head.png").exists()


def test_command_says_where_the_page_is_and_answers_mistakes_in_a_line(sweep, tmp_path):
    def command(*overrides):
        return subprocess.run([sys.executable, ROOT / "scripts/report.py", *overrides], capture_output=True, text=True)

    done = command(sweep, "--out", tmp_path / "new" / "place")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "new" / "place" / "report.html").exists() and "report.html" in done.stdout
    for overrides in ([tmp_path / "nowhere"], [sweep, "--metric", "val/f1"]):
        refused = command(*overrides)
        assert refused.returncode == 2 and "Traceback" not in refused.stderr
        assert not re.search(r"^ ", refused.stderr.splitlines()[-1])


def test_help_brings_nothing_heavy():
    code = """import runpy, sys
sys.argv = ["report.py", "--help"]
try:
    runpy.run_path("scripts/report.py", run_name="__main__")
except SystemExit:
    print(*{name.split(".")[0] for name in sys.modules})"""
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--metric" in out
    assert not set(out.split()) & {"torch", "lightning", "hydra", "numpy", "matplotlib", "tensorboard"}


def test_sweep_of_2000_jobs_has_a_page(tmp_path, leave):
    for n, (lr, seed) in enumerate(product(range(1, 101), range(20))):
        metrics = {"status": "completed", "val/accuracy": 0.9 + lr / 2000 + seed / 10000, "val/loss": 0.1}
        leave(tmp_path / str(n), [f"optim.lr={lr / 100}", f"seed={seed}"], metrics, {"val/loss": [0.3, 0.1]})
    page = report(tmp_path)
    assert "2,000 completed" in " ".join(page.texts)
