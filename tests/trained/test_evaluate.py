"""scripts/evaluate.py measures what the run measured, and shows where the network errs."""

import json
import re

import pytest

from seedbed.errors import ConfigError
from seedbed.trained.evaluate import known


def test_last_weights_have_the_runs_own_figures(trained, command, mnist_root):
    folder = trained("data=mnist", "loss=cross_entropy", "+trainer.limit_train_batches=30")
    code, out, err = command("evaluate", folder, "--which", "last")
    assert (code, err) == (0, "")
    metrics = json.loads((folder / "metrics.json").read_text())
    found = json.loads((folder / "evaluate/metrics.json").read_text())
    for name in ("val/loss", "val/accuracy", "test/loss", "test/accuracy"):
        assert found[name] == metrics[name]
    assert f"10000 test pictures: accuracy {metrics['test/accuracy']:.4f}" in out
    rows = [line.split() for line in out.split("test pictures")[1].splitlines() if re.match(r" +\d ", line)]
    assert [row[0] for row in rows] == [str(k) for k in range(10)]
    assert sum(int(row[1]) for row in rows) == 10_000
    assert sum(int(row[2]) for row in rows) == round(10_000 * metrics["test/accuracy"])
    shares = found["test/accuracy_by_class"]
    assert all(f"{shares[row[0]]:.4f}" == row[3] for row in rows)
    for name in ("confusion", "worst_mistakes", "test_confusion", "test_worst_mistakes"):
        assert (folder / f"evaluate/{name}.png").read_bytes().startswith(b"\x89PNG")


def test_other_data_is_matched_by_the_classes_names(trained, command, tmp_path, mnist_root):
    code, out, _ = command("evaluate", trained("model=mlp"), "data=mnist", "--out", tmp_path)
    assert code == 0
    assert "classes that the network does not know (0, 1, 2, 4, 5, 6, 8, 9)" in out
    # MNIST's test set has 1,028 sevens and 1,010 threes: the validation set of the run
    metrics = json.loads((trained("model=mlp") / "metrics.json").read_text())
    assert json.loads((tmp_path / "metrics.json").read_text())["test/accuracy"] == metrics["val/accuracy"]
    assert "2038 test pictures" in out


def test_numbers_have_a_loss_only(trained, command):
    folder = trained("model=rectified_lines", "data=function", "loss=mse")
    code, out, _ = command("evaluate", folder, "data.name=square")
    assert code == 0 and "accuracy" not in out and not (folder / "evaluate/confusion.png").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["optim.lr=1"], "optim.lr=1: must be data="),
        (["data=nothing"], "nothing"),
        (["data.nothing=1"], "nothing"),
        (["data=roller_coaster"], "shape 1, the network takes 1×28×28"),
        (["data.batch_size=0"], "data.batch_size=0: must be an integer ≥ 1"),
    ],
)
def test_a_mistake_is_one_line(trained, command, arguments, message):
    code, out, err = command("evaluate", trained("model=mlp"), *arguments)
    assert (code, out) == (2, "")
    assert message in err and err.count("\n") == 1


def test_what_is_no_run_or_draws_pictures_is_one_line(trained, command, tmp_path):
    gan = trained("model=gan", "loss=bce", "+trainer.limit_train_batches=1")
    for folder, message in ((tmp_path, "is no run"), (tmp_path / "x", "no such run"), (gan, "draws pictures")):
        code, _, err = command("evaluate", folder)
        assert code == 2 and message in err and err.count("\n") == 1


def test_unknown_classes_only_are_refused():
    import torch

    split = torch.zeros(3, 1), torch.tensor([0, 1, 1])
    (x, y), unknown = known(split, ["a", "b"], ["c", "b"])
    assert (len(x), y.tolist(), unknown) == (2, [1, 1], ["a"])
    with pytest.raises(ConfigError, match="none of the network's"):
        known(split, ["a", "b"], ["c", "d"])
