"""Swept values get the axis that shows them; jobs find their cells."""

import numpy as np
import pytest

from seedbed.report.grid import Grid, scale
from seedbed.sweeps.records import Job


def job(number, accuracy, **values):
    values = {key.replace("__", "."): value for key, value in values.items()}
    return Job(number, str(number), values, {"status": "completed", "val/accuracy": accuracy})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.001, 0.01, 0.1, 1], "log"),
        ([0.01, 1], "log"),
        ([0.01 * k for k in range(1, 101)], "linear"),
        ([1, 2, 4, 8, 16, 32], "log"),
        ([16, 32, 64], "linear"),
        ([0.8, 0.9, 0.95, 0.99], "linear"),
        ([0, 1e-4, 1e-2], "names"),
        ([0, 0.25, 0.5], "linear"),
        ([-1, 0, 1], "linear"),
    ],
)
def test_scale_of_numbers(values, expected):
    assert scale(values) == expected


def test_axes_are_the_swept_keys_without_seeds_and_numbers_are_in_order():
    jobs = [
        job(n, 0.5, model=model, optim__lr=lr, seed=seed, trainer__max_epochs=3)
        for n, (model, lr, seed) in enumerate((m, lr, s) for m in ("mlp", "linear") for lr in (1, 0.1) for s in (0, 1))
    ]
    grid = Grid(jobs, "val/accuracy")
    assert [(axis.key, axis.names, axis.scale) for axis in grid.axes] == [
        ("model", ["mlp", "linear"], "names"),
        ("optim.lr", ["0.1", "1"], "log"),
    ]
    assert (grid.seed_keys, grid.seed_names) == (["seed"], ["0", "1"])


def test_booleans_and_lists_are_words_and_a_missing_value_is_named():
    jobs = [job(0, 0.1, a=True, b="[30]"), job(1, 0.2, a=False, b="[30,30]"), job(2, 0.3, a=None)]
    a, b = Grid(jobs, "val/accuracy").axes
    assert (a.names, a.scale) == (["true", "false", "null"], "names")
    assert (b.names, b.scale) == (["[30]", "[30,30]", "(none)"], "names")


def test_range_values_are_named_as_one_would_write_them():
    jobs = [job(n, 0.5, lr=value) for n, value in enumerate((0.47000000000000003, 0.48))]
    assert Grid(jobs, "val/accuracy").axes[0].names == ["0.47", "0.48"]


def test_cells_hold_each_job_at_its_value_combination_and_seed():
    numbers = {(m, lr, s): 100 * m + 10 * lr + s for m in range(2) for lr in range(3) for s in range(4)}
    jobs = [job(n, value, model=f"m{m}", lr=lr, seed=s) for n, ((m, lr, s), value) in enumerate(numbers.items())]
    grid = Grid(jobs[::-1], "val/accuracy")
    model, lr = grid.axes
    cells, ran = grid.cells(lr)
    assert ran.all() and cells.shape == (3, 2, 4)
    for (m, v, s), value in numbers.items():
        assert cells[v, model.names.index(f"m{m}"), s] == value


def test_jobs_without_the_metric_are_empty_cells_that_ran():
    grid = Grid([job(0, 0.5, lr=1, seed=0), job(1, None, lr=1, seed=1), job(2, 0.7, lr=2, seed=0)], "val/accuracy")
    cells, ran = grid.cells(grid.axes[0])
    np.testing.assert_equal(cells, [[[0.5, np.nan]], [[0.7, np.nan]]])
    assert ran.tolist() == [[[True, True]], [[True, False]]]


def test_random_search_is_no_grid():
    noise = np.random.default_rng(0)
    jobs = [job(n, 0.5, lr=noise.uniform(), wd=noise.uniform()) for n in range(400)]
    grid = Grid(jobs, "val/accuracy")
    assert grid.cells(grid.axes[0]) is None


def test_seeds_are_paired_by_both_their_keys():
    jobs = [job(n, 0.5, seed=n % 2, data__seed=n // 2, lr=lr) for lr in (1, 2) for n in range(4)]
    grid = Grid(jobs, "val/accuracy")
    assert grid.num_seeds == 4 and [axis.key for axis in grid.axes] == ["lr"]
