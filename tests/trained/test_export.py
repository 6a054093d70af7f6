"""scripts/export.py: an ONNX file and a page that answer like the network."""

import json
import math

import numpy as np
import pytest
import torch
from browser import CHROMIUM, DRIVER, Browser

from seedbed.data.mnist_sample import arrays
from seedbed.trained.html import PAGE
from seedbed.trained.photographs import centred
from seedbed.training.load import load

SEVEN = [(0.28, 0.25), (0.5, 0.24), (0.72, 0.25), (0.62, 0.45), (0.5, 0.65), (0.43, 0.82)]


def arc(x: float, y: float, width: float, height: float, first: int, last: int) -> list[tuple[float, float]]:
    angles = [math.radians(first + (last - first) * i / 12) for i in range(13)]
    return [(x + width * math.cos(a), y + height * math.sin(a)) for a in angles]


THREE = arc(0.48, 0.35, 0.17, 0.15, 200, 450) + arc(0.48, 0.65, 0.2, 0.16, -90, 160)


@pytest.mark.parametrize(
    "model", [("model=mlp",), ("model=convnet",), ("model=rectified_lines", "data=function", "loss=mse")]
)
def test_onnx_file_answers_like_the_network(trained, command, tmp_path, model):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = trained(*model)
    code, out, _ = command("export", folder, "--out", tmp_path / "model.onnx")
    assert code == 0 and "samples, at most" in out
    loaded, session = load(folder), onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    x = torch.rand(7, *loaded.facts.shape)
    found = session.run(None, {"x": x.numpy()})
    wanted = loaded.net(x).detach()
    np.testing.assert_allclose(found[0], wanted, atol=1e-5)
    known = {
        name: json.loads(v) for name, v in session.get_modelmeta().custom_metadata_map.items() if "seedbed" in name
    }
    assert known["seedbed.classes"] == loaded.facts.classes and known["seedbed.divisor"] == loaded.facts.divisor
    if loaded.facts.classes:
        np.testing.assert_allclose(found[1], loaded.loss.probabilities(wanted), atol=1e-5)


@pytest.mark.parametrize(
    "overrides, message",
    [
        (("model=convnet",), "convnet has a Conv2d"),
        (("model=pixel_similarity",), "has a PixelSimilarity"),
        (("model=rectified_lines", "data=function", "loss=mse"), "tells no classes apart"),
    ],
)
def test_a_page_of_other_models_is_refused_in_one_line(trained, command, overrides, message):
    code, out, err = command("export", trained(*overrides), "--html")
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_a_page_is_one_file_that_asks_for_nothing(trained, command):
    folder = trained("model=mlp")
    assert command("export", folder, "--html")[0] == 0
    page = (folder / "draw.html").read_text()
    assert len(page) > 4 * 784 * 30 and "__NETWORK__" not in page
    assert not [
        word for word in ("http:", "https:", "src=", "url(", "@import", "fetch(", "import(") if word in PAGE.read_text()
    ]


@pytest.fixture(scope="module")
def browser():
    if not (CHROMIUM and DRIVER):
        pytest.skip("no Chromium and chromedriver here")
    window = Browser()
    yield window
    window.close()


def opened(browser, trained, command, *overrides: str):
    folder = trained(*overrides)
    assert command("export", folder, "--html", "--which", "last")[0] == 0
    browser.open(folder / "draw.html")
    return load(folder, "last")


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=mlp",),
        ("model=linear_scratch", "loss=mse", "data.normalize=standard", "optim.lr=0.001"),
        ("model=mlp", "model.activation=selu", "model.dropout=0.1", "model.hidden=[20,10]", "loss=nll"),
        ("model=mlp", "model.activation=gelu", "loss=cross_entropy", "data.normalize=symmetric"),
    ],
)
def test_page_equals_torch_on_100_images(browser, trained, command, overrides):
    loaded = opened(browser, trained, command, *overrides)
    images = torch.from_numpy(arrays()["valid_images"][::20][:100])[:, None]
    answers = [browser.run("return window.seedbed.forward(arguments[0])", image.flatten().tolist()) for image in images]
    output = loaded.net(loaded.convert(images)).detach()
    assert len(answers) == 100
    np.testing.assert_allclose([a["output"] for a in answers], output, atol=1e-4)
    np.testing.assert_allclose([a["probabilities"] for a in answers], loaded.loss.probabilities(output), atol=1e-4)


def answer(browser) -> list[str]:
    return browser.run("return ['#best', '#said'].map(s => document.querySelector(s).textContent)")


@pytest.mark.parametrize("kind", ["mouse", "touch"])
def test_a_seven_that_is_drawn_is_read_as_seven_and_a_three_as_three(browser, trained, command, kind):
    opened(browser, trained, command, "model=mlp", "trainer.max_epochs=5")
    assert answer(browser)[0] == "–"
    for digit, strokes in (("7", [SEVEN]), ("3", [THREE]), ("7", [SEVEN[:3], SEVEN[2:]])):
        for points in strokes:
            browser.stroke("#pad", points, kind)
        assert answer(browser)[0] == digit
        now = browser.run("return window.seedbed.now()")
        bars = browser.run("return [...document.querySelectorAll('.bar .fill')].map(b => parseFloat(b.style.width))")
        np.testing.assert_allclose(bars, 100 * np.array(now["probabilities"]), atol=1e-2)
        units = browser.run(
            "return [...document.querySelectorAll('.unit .value span:last-child')].map(v => v.textContent)"
        )
        np.testing.assert_allclose([float(v.replace("−", "-")) for v in units], now["first"], atol=0.06)
        browser.run("document.querySelector('#clear').click()")
        browser.settle()
        assert answer(browser)[0] == "–"
    assert browser.errors() == []


def test_page_makes_pixels_as_photographs_are_made(browser, trained, command):
    opened(browser, trained, command, "model=mlp", "trainer.max_epochs=5")
    for points in (SEVEN, THREE, [(0.5, 0.2), (0.5, 0.8)], [(0.3, 0.3)]):
        browser.stroke("#pad", points)
        picture = browser.run("const r = window.seedbed.rendered(); return {...r, ink: [...r.ink]}")
        ink = np.array(picture["ink"]).reshape(picture["height"], picture["width"])
        pixels = np.array(browser.run("return [...window.seedbed.now().pixels]")).reshape(28, 28)
        assert np.abs(pixels - centred(ink)).max() <= 1
        browser.run("document.querySelector('#undo').click()")
        browser.settle()


def test_page_fits_a_phone(trained, command):
    if not (CHROMIUM and DRIVER):
        pytest.skip("no Chromium and chromedriver here")
    phone = Browser(360, 740, 2)
    try:
        opened(phone, trained, command, "model=mlp", "trainer.max_epochs=5")
        phone.stroke("#pad", SEVEN, "touch")
        assert answer(phone)[0] == "7"
        width, height, best = phone.run(
            "window.scrollTo(0, 0); const b = document.querySelector('#best').getBoundingClientRect();"
            "return [document.documentElement.scrollWidth, innerHeight, b.bottom]"
        )
        # nothing sticks out at the side, and the answer is seen while one draws
        assert width <= 360 and best < height
    finally:
        phone.close()
