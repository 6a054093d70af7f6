"""history.csv: a row for each epoch, equal to the curves, to the uninterrupted run's and to the member's."""

import csv

import pytest


def rows(folder):
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def numbers(table, name):
    return [float(row[name]) for row in table]


def test_history_is_the_curves_and_survives_a_resume(sweep, left_in):
    words = ["model=linear", "trainer.max_epochs=3"]
    basic, fused = (sweep(launcher, *words, "optim.lr=0.1,1") for launcher in ("basic", "fused"))
    table = rows(basic / "1")
    assert [row["epoch"] for row in table] == ["0", "1", "2", "3"]
    assert table[0]["train/loss"] == table[0]["lr"] == ""
    for name in ("train/loss", "val/loss", "val/accuracy", "lr"):
        own, of_member = (numbers(t if "val" in name else t[1:], name) for t in (table, rows(fused / "1")))
        assert own == pytest.approx(of_member, rel=1e-4)
        if "val" in name:
            assert own == pytest.approx(left_in(basic / "1").curve(name), rel=1e-6)
    last = basic / "1/checkpoints/last.ckpt"
    longer = sweep("basic", "model=linear", "optim.lr=1", "trainer.max_epochs=4", f"ckpt_path={last}")
    assert rows(longer / "0")[:4] == table and len(rows(longer / "0")) == 5
