"""scripts/predict.py reads pictures, and says what the network says."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from photos import photograph
from PIL import Image

from seedbed.data.mnist_sample import arrays
from seedbed.training.load import load

THREE, SEVEN = 0, 1020  # places in the validation set


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of a three, a photographed seven in a folder below, what is no picture, and what is hidden."""
    folder = tmp_path_factory.mktemp("pictures")
    images = arrays()["valid_images"]
    Image.fromarray(images[THREE]).save(folder / "three.png")
    (folder / "below").mkdir()
    Image.fromarray(photograph(images[SEVEN], np.random.default_rng(3))).save(folder / "below/seven.jpg")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_text("hidden")
    return folder


@pytest.fixture(scope="module")
def run(trained):
    return trained("model=mlp", "trainer.max_epochs=5")


def test_json_holds_the_networks_probabilities(run, command, folder):
    code, out, err = command("predict", run, folder, "--json")
    assert (code, err) == (0, "")
    seven, three = json.loads(out)
    assert [p["file"] for p in (seven, three)] == [str(folder / "below/seven.jpg"), str(folder / "three.png")]
    assert (seven["class"], three["class"]) == ("7", "3")
    image = torch.from_numpy(arrays()["valid_images"][THREE])[None, None]
    wanted = dict(zip(["7", "3"], load(run).probabilities(image)[0].tolist(), strict=True))
    assert three == {
        "file": str(folder / "three.png"),
        "class": "3",
        "probability": wanted["3"],
        "probabilities": wanted,
    }


def test_table_and_csv_say_the_same_and_doubts_are_told(run, command, folder):
    _, table, _ = command("predict", run, folder, "--sure", 1)
    code, text, doubts = command("predict", run, folder, "--csv", "--sure", 1)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert code == 0 and [row["class"] for row in rows] == ["7", "3"]
    for row, line in zip(rows, table.splitlines()[1:], strict=True):
        assert line.split()[:3] == [row["file"], row["class"], f"{float(row['probability']):.3f}"]
        assert float(row["probability"]) == max(float(row["7"]), float(row["3"]))
        assert "unsure, perhaps" in line and f"{row['file']}: unsure, perhaps" in doubts


def test_what_the_network_saw_is_shown(run, command, folder, tmp_path):
    for arguments, path in (
        (["--save"], run / "predict/seen.png"),
        (["--save", tmp_path / "x/y.png"], tmp_path / "x/y.png"),
    ):
        code, _, err = command("predict", run, folder, *arguments)
        assert code == 0 and "what the network saw" in err
        assert Image.open(path).width > 500


def test_a_broken_picture_is_one_line_and_the_others_are_read(run, command, folder, tmp_path):
    whole = (folder / "three.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    Image.new("L", (50, 50), 200).save(tmp_path / "blank.png")
    code, out, err = command(
        "predict", run, folder / "three.png", tmp_path / "half.png", tmp_path / "blank.png", "gone.png"
    )
    assert code == 2 and len(out.splitlines()) == 2
    said = err.splitlines()
    assert len(said) == 3
    assert command("predict", run, tmp_path / "half.png")[:2] == (2, "")
    for line, what in zip(said, ("half.png is damaged", "blank.png: nothing", "gone.png is no file"), strict=True):
        assert what in line


def test_pictures_of_other_things_are_resized(command, trained, tmp_path):
    colours = {"red": (200, 10, 10), "blue": (10, 10, 200)}
    for name, colour in colours.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), tuple(c + i for c in colour)).save(tmp_path / "data" / name / f"{i}.png")
    run = trained(
        "data=image_folder",
        f"data.root={tmp_path}/data",
        "data.valid_fraction=0.5",
        "model=linear",
        "trainer.max_epochs=30",
    )
    Image.new("RGB", (300, 200), (230, 20, 30)).save(tmp_path / "wide.png")
    code, out, _ = command("predict", run, tmp_path / "wide.png", "--json")
    assert code == 0 and json.loads(out)[0]["class"] == "red"


@pytest.mark.parametrize(
    "overrides, message",
    [
        (("model=gan", "loss=bce", "+trainer.limit_train_batches=1"), "tells no classes apart"),
        (("model=rectified_lines", "data=function", "loss=mse"), "tells no classes apart"),
    ],
)
def test_a_network_without_classes_is_one_line(trained, command, folder, overrides, message):
    code, out, err = command("predict", trained(*overrides), folder)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_an_empty_folder_is_one_line(run, command, tmp_path):
    code, _, err = command("predict", run, tmp_path)
    assert code == 2 and "no picture" in err and err.count("\n") == 1
