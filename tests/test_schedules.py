"""Schedules pass through the points of their formulas."""

import math
from itertools import pairwise

import pytest

from seedbed.schedules import combined, constant, cosine, exponential, linear, one_cycle, values

GRID = [k / 1000 for k in range(1001)]
CURVES = [linear, cosine, exponential]


def test_constant_is_1_throughout():
    assert {constant()(p) for p in GRID} == {1.0}


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.1), (0.2, 5.0), (0.3, 0.3)])
@pytest.mark.parametrize("curve", CURVES)
def test_curve_runs_from_start_to_end(curve, start, end):
    schedule = curve(start, end)
    assert (schedule(0.0), schedule(1.0)) == (pytest.approx(start), pytest.approx(end))


@pytest.mark.parametrize(("curve", "end"), [(linear, 0.0), (cosine, 0.0), (exponential, 0.01)])
def test_curve_without_arguments_decays_from_1(curve, end):
    assert (curve()(0.0), curve()(1.0)) == (1.0, pytest.approx(end, abs=1e-12))


@pytest.mark.parametrize("curve", CURVES)
def test_curve_is_strictly_monotonic(curve):
    assert all(a > b for a, b in pairwise(map(curve(1.0, 0.1), GRID)))
    assert all(a < b for a, b in pairwise(map(curve(0.1, 1.0), GRID)))


@pytest.mark.parametrize(("curve", "middle"), [(linear, 1.0), (cosine, 1.0), (exponential, math.sqrt(0.5 * 1.5))])
def test_curve_is_half_way_at_half_time(curve, middle):
    """The arithmetic mean of start and end, or the geometric one."""
    assert curve(0.5, 1.5)(0.5) == pytest.approx(middle)


def test_linear_falls_by_equal_steps_and_exponential_by_equal_factors():
    assert [a - b for a, b in pairwise(map(linear(1.0, 0.1), GRID))] == pytest.approx([0.9 / 1000] * 1000)
    assert [b / a for a, b in pairwise(map(exponential(1.0, 0.1), GRID))] == pytest.approx([0.1 ** (1 / 1000)] * 1000)


def test_cosine_is_flat_at_both_ends_and_steepest_in_the_middle():
    schedule, h = cosine(1.0, 0.0), 1e-4
    slope = [(schedule(p + h) - schedule(p - h)) / (2 * h) for p in (0.0, 0.5, 1.0)]
    assert slope == pytest.approx([0, -math.pi / 2, 0], abs=1e-6)


def fastai_one_cycle(pos, pct_start, div, div_final):
    """fit_one_cycle: combine_scheds([pct, 1 − pct], [SchedCos(lr/div, lr), SchedCos(lr, lr/div_final)]), lr = 1."""

    def sched_cos(start, end, pos):
        return start + (1 + math.cos(math.pi * (1 - pos))) * (end - start) / 2

    if pos < pct_start:
        return sched_cos(1 / div, 1.0, pos / pct_start)
    return sched_cos(1.0, 1 / div_final, (pos - pct_start) / (1 - pct_start))


@pytest.mark.parametrize(("pct_start", "div", "div_final"), [(0.25, 25.0, 1e5), (0.4, 10.0, 100.0)])
def test_one_cycle_equals_fastais(pct_start, div, div_final):
    found = list(map(one_cycle(pct_start, div, div_final), GRID))
    assert found == pytest.approx([fastai_one_cycle(p, pct_start, div, div_final) for p in GRID], rel=1e-9, abs=1e-12)


def test_one_cycle_by_default_goes_up_from_a_25th_in_a_quarter_and_down_to_a_100_000th():
    schedule = one_cycle()
    assert [schedule(p) for p in (0.0, 0.25, 1.0)] == pytest.approx([1 / 25, 1.0, 1e-5])
    values = list(map(schedule, GRID))
    assert all(a < b for a, b in pairwise(values[:251]))
    assert all(a > b for a, b in pairwise(values[250:]))


def test_combined_runs_each_phase_whole_in_its_fraction():
    """The course's example: 30 % cosine .3 → .6, 70 % cosine .6 → .2."""
    first, second = cosine(0.3, 0.6), cosine(0.6, 0.2)
    schedule = combined([first, second], [0.3, 0.7])
    expected = [first(p / 0.3) if p < 0.3 else second((p - 0.3) / 0.7) for p in GRID]
    assert list(map(schedule, GRID)) == pytest.approx(expected)
    assert [schedule(p) for p in (0.0, 0.3, 1.0)] == pytest.approx([0.3, 0.6, 0.2])


@pytest.mark.parametrize("curve", CURVES)
def test_curve_multiplies_the_number_given_or_is_the_number(curve):
    by, to = curve(1.0, 0.1, drives="weight_decay"), curve(1.0, 0.1, drives="weight_decay", absolute=True)
    for p in GRID[::50]:
        assert by(p, "weight_decay", 7.0) == 7 * by(p, "weight_decay")
        assert to(p, "weight_decay", 7.0) == by(p, "weight_decay")
    assert by(0.3, "momentum", 0.9) == to(0.3, "momentum", 0.9) == 0.9, "only weight_decay is driven"


def test_values_are_the_courses_combined_schedule():
    schedule = values(lr=[0.3, 0.6, 0.2], fractions=[0.3, 0.7])
    by_hand = combined([cosine(0.3, 0.6), cosine(0.6, 0.2)], [0.3, 0.7])
    assert [schedule(p, given=5.0) for p in GRID] == [by_hand(p) for p in GRID]


def test_values_drive_each_number_by_itself_and_leave_what_is_null():
    schedule = values(shape="linear", lr=[0.0, 1.0, 0.0], dropout=[0.1, 0.5], momentum=None)
    assert set(schedule.curves) == {"lr", "dropout"}
    assert [schedule(p) for p in (0, 0.25, 0.5, 0.75, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert [schedule(p, "dropout", 0.2) for p in (0, 0.5, 1)] == pytest.approx([0.1, 0.3, 0.5])


def test_phases_may_drive_different_numbers():
    schedule = combined([linear(0.0, 1.0), linear(1.0, 0.5, drives="momentum")], [0.5, 0.5])
    assert [schedule(p) for p in (0, 0.25, 0.6)] == [0, 0.5, 1.0]
    assert [schedule(p, "momentum", 0.9) for p in (0, 0.25, 0.75)] == pytest.approx([0.9, 0.9, 0.9 * 0.75])


def test_one_cycles_momentum_goes_the_other_way():
    schedule = one_cycle()
    assert [schedule(p, "momentum", 0.95) for p in (0, 0.25, 1)] == pytest.approx([0.95, 0.85, 0.95])


def test_combined_of_phases_that_meet_has_no_jump():
    schedule = combined([linear(0.1, 1.0), constant(), exponential(1.0, 0.1)], [0.2, 0.5, 0.3])
    assert max(abs(a - b) for a, b in pairwise(map(schedule, GRID))) < 0.01


@pytest.mark.parametrize("border", [0.25, 0.75])  # exact in binary
def test_at_a_border_the_next_phase_begins(border):
    phases = [linear(0.0, 1.0), linear(10.0, 11.0), linear(20.0, 21.0)]
    schedule = combined(phases, [0.25, 0.5, 0.25])
    before, at = schedule(border - 1e-9), schedule(border)
    assert (before % 10, at % 10) == (pytest.approx(1.0), 0.0)
    assert at > before


def test_the_end_of_the_run_is_the_end_of_the_last_phase_whatever_the_rounding():
    assert combined([linear(0.0, 1.0)] * 10, [0.1] * 10)(1.0) == pytest.approx(1.0)
    assert combined([linear(0.0, 1.0)] * 3, [1 / 3] * 3)(1.0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "fractions", [[0.5], [0.5, 0.4], [0.7, 0.7], [1.0, 0.0], [1.5, -0.5], [0.2, 0.3, 0.5]], ids=str
)
def test_combined_refuses_fractions_that_do_not_divide_the_run(fractions):
    with pytest.raises(ValueError, match=r"fractions=.* must be 2 positive numbers that sum to 1"):
        combined([linear(), linear()], fractions)
