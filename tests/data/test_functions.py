"""The points of the one-dimensional data sets are those of their formulas or their file."""

import math

import pytest
import torch

from seedbed.allowed_values import RULES, check
from seedbed.data.functions import FUNCTIONS, function, roller_coaster
from seedbed.errors import ConfigError
from seedbed.training.build import build_data


def test_roller_coaster_is_a_parabola_with_noise_of_std_3_that_its_seed_fixes():
    splits = roller_coaster()
    (time, speed), valid = splits.train, splits.valid
    assert time[:, 0].tolist() == list(range(20)) and speed.dtype == torch.float32 and splits.classes is None
    assert torch.equal(valid[0], time) and torch.equal(valid[1], speed)
    assert torch.equal(roller_coaster(0).train[1], speed) and not torch.equal(roller_coaster(1).train[1], speed)
    parabola = torch.tensor([0.75 * (t - 9.5) ** 2 + 1 for t in range(20)])
    noise = torch.stack([roller_coaster(seed).train[1] for seed in range(500)]) - parabola
    assert noise.std().item() == pytest.approx(3, rel=0.03) and abs(noise.mean().item()) < 0.15  # 5 standard errors


def test_roller_coaster_does_not_depend_on_the_runs_seed(composed):
    sets = [build_data(composed("data=roller_coaster", "loss=mse", f"seed={seed}")[0]) for seed in (0, 1)]
    assert torch.equal(sets[0].splits.train[1], sets[1].splits.train[1])


FORMULAS = {
    "sin": lambda x: math.sin(math.pi * x),
    "wave": lambda x: math.sin(2 * math.pi * x),
    "square": lambda x: x * x,
    "step": lambda x: 1.0 if x > 0 else 0.0,
    "triangle": lambda x: 1 - 2 * abs(x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_its_formula_and_validates_between_its_points(name):
    splits = function(name)
    for x, y in (splits.train, splits.valid):
        expected = torch.tensor([FORMULAS[name](v) for v in x[:, 0].tolist()])
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)
    x, middles = splits.train[0], splits.valid[0]
    assert (len(x), len(middles), x[0].item(), x[-1].item()) == (256, 255, -1, 1)
    assert ((middles > x[:-1]) & (middles < x[1:])).all()


def test_expression_takes_the_place_of_the_name():
    x, y = function(expression="sin(3*x) + x**2").train
    expected = torch.tensor([math.sin(3 * v) + v * v for v in x[:, 0].tolist()])
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)
    assert function(expression="sin(pi*x)", points=7).train[1].tolist() == function(points=7).train[1].tolist()
    assert function(expression="3").valid[1].unique().tolist() == [3]


def test_noise_has_its_std_and_follows_from_its_seed_alone():
    clean, noisy = function(points=20_000), function(points=20_000, noise=0.1)
    for (x, y), (other_x, other) in ((clean.train, noisy.train), (clean.valid, noisy.valid)):
        noise = other - y
        assert torch.equal(x, other_x) and noise.std().item() == pytest.approx(0.1, rel=0.03)
        assert abs(noise.mean().item()) < 5 * 0.1 / math.sqrt(20_000)
    torch.manual_seed(3)
    assert torch.equal(function(noise=0.1).train[1], function(noise=0.1).train[1])
    assert not torch.equal(function(noise=0.1, noise_seed=1).train[1], function(noise=0.1).train[1])


COLUMNS = [(0.5 * i, i * i) for i in (3, 1, 2, 0, 4, 5, 6, 7, 9, 8)]
FILES = {
    "comma": "\n".join(f"{x},{y}" for x, y in COLUMNS),
    "named": "speed,time (s)\n" + "\n".join(f"{x}, {y}" for x, y in COLUMNS) + "\n\n",
    "semicolon": "\ufeffa;b\r\n" + "\r\n".join(f"{x};{y}" for x, y in COLUMNS),
    "spaces": "# measured\n" + "\n".join(f"  {x}   {y:e}" for x, y in COLUMNS),
    "tab": '"a"\t"b"\n' + "\n".join(f"{x}\t{y}" for x, y in COLUMNS),
}
AXES = {"named": ("speed", "time (s)"), "semicolon": ("a", "b"), "tab": ("a", "b")}


@pytest.mark.parametrize("form", FILES)
def test_points_come_from_a_file_of_two_columns_and_every_fifth_validates(tmp_path, form):
    (tmp_path / "points.csv").write_bytes(FILES[form].encode())
    splits = function(points=str(tmp_path / "points.csv"))
    assert splits.train[0][:, 0].tolist() == [0, 0.5, 1.5, 2, 2.5, 3, 4, 4.5]
    assert splits.train[1].tolist() == [0, 1, 9, 16, 25, 36, 64, 81]
    assert splits.valid[0].tolist() == [[1], [3.5]] and splits.valid[1].tolist() == [4, 49]
    assert splits.axes == AXES.get(form, ("x", "y"))


BAD_FILES = {
    "": "holds 0 points; at least 5 are wanted",
    "1,2\n3,4": "holds 2 points; at least 5 are wanted",
    "1,2,3\n": "line 1 has 3 columns; two are wanted, x and y",
    "x,y\n1,2\n3\n": "line 3 has 1 columns",
    "1,2\n3,four\n": "line 2 is no pair of numbers: 3,four",
    "x,y\nx,y\n": "line 2 is no pair of numbers: x,y",
    "1,nan\n": "line 1 is not finite: 1,nan",
    "0,1\n1,2\n2,3\n3,4\n4,1e300\n": "is inf at x = 4; every value must be finite",
    "1;2,5\n": "line 1 is no pair of numbers",
    "2,5;3,5\n1;2\n": "line 1 is no pair of numbers",
    "\udcff": "codec can't decode",
}


@pytest.mark.parametrize(("content", "words"), BAD_FILES.items())
def test_file_that_holds_no_points_is_refused_in_one_line(tmp_path, content, words):
    path = tmp_path / "points.csv"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"^data\.points=.*points\.csv: ") as raised:
        function(points=str(path))
    assert words in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.expression='sin(y)'"], "data.expression=sin(y): y is not allowed; a formula has x, numbers, pi"),
        (["data.expression='1/(x-1)'"], "data.expression=1/(x-1): is inf at x = 1; every value must be finite"),
        (["data.expression=''"], "data.expression=: no formula of x"),
        (["data.name=wave", "data.expression=x"], "data.name=wave: data.expression=x is given, too"),
        (["data.points=/dev/null"], "data.points=/dev/null: must be an integer ≥ 2 and ≤ 1000000, or a file"),
        (["data.points=1"], "data.points=1: must be an integer ≥ 2 and ≤ 1000000, or a file that exists"),
        (["data.points=2000000"], "data.points=2000000: must be an integer ≥ 2"),
        (["data.noise=-1"], "data.noise=-1: must be a number ≥ 0"),
        (["data.expression=3"], "data.expression=3: must be null or text"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_no_function_is_refused_in_the_users_words(composed, overrides, message):
    config, _ = composed("data=function", "loss=mse", "model=rectified_lines", *overrides)
    with pytest.raises(ConfigError) as raised:
        check(config)
        build_data(config)
    assert str(raised.value).startswith(message)


def test_expression_and_noise_train(fit):
    run = fit("data=function", "loss=mse", "model=rectified_lines", "data.expression='abs(x)'", "data.noise=0.1")
    assert 0.01 < run.metrics["val/loss"] < 0.02  # the noise's variance, and what the lines miss


def test_rule_allows_exactly_the_functions():
    assert RULES["data.name"].allowed == "one of " + ", ".join(FUNCTIONS)


def test_numbers_reach_the_model_as_they_are(composed):
    data = build_data(composed("data=roller_coaster")[0])
    ((x, y),) = data.train_dataloader()
    assert torch.equal(x, data.splits.train[0]) and torch.equal(y, data.splits.train[1])
    assert data.num_classes is None
