"""Effects and comparisons: means, intervals and p-values against hand figures and an independent Student's t."""

import mpmath
import numpy as np
import pytest

from seedbed.report.effects import complete_block, effect, pairs
from seedbed.statistics import holm, interval, intervals, paired_p, two_sided_p

NAN = np.nan


def reference_p(t, df):
    """P(|T| ≥ |t|) by the regularised incomplete beta function, 30 digits."""
    with mpmath.workdps(30):
        return float(mpmath.betainc(mpmath.mpf(df) / 2, 0.5, 0, df / (df + mpmath.mpf(t) ** 2), regularized=True))


@pytest.mark.parametrize("df", [*range(1, 31), 99, 999])
def test_p_value_is_that_of_students_t(df):
    ts = [0.0, 1e-3, 0.5, 1.0, 2.0, -2.776, 5.0, 20.0]
    assert two_sided_p(np.array(ts), df) == pytest.approx([reference_p(t, df) for t in ts], abs=1e-13)


def test_p_value_of_different_degrees_of_freedom_at_once():
    t, df = np.array([[12.706, 4.303], [2.776, 2.262]]), np.array([[1, 2], [4, 9]])
    assert two_sided_p(t, df) == pytest.approx(0.05, abs=1e-4)  # the tabulated quantiles


def test_paired_test_is_the_textbooks():
    """Student's sleep data (1908): ten patients, two drugs; mean difference 1.58, t = 4.0621, p = 0.002833."""
    first = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    second = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    assert paired_p(second - first) == pytest.approx(0.002833, abs=5e-7)
    mean, half, n = intervals(second - first)
    assert (mean, half, n) == (pytest.approx(1.58), pytest.approx((2.4598858 - 0.7001142) / 2, abs=1e-5), 10)


def test_paired_test_agrees_with_scipy_where_it_is_installed():
    stats = pytest.importorskip("scipy.stats")
    d = np.random.default_rng(0).normal(0.3, 1, (50, 7))
    assert paired_p(d) == pytest.approx(stats.ttest_1samp(d, 0, axis=1).pvalue, rel=1e-4)  # the quantile's 1e-5


def test_p_value_is_uniform_where_there_is_no_difference():
    p = paired_p(np.random.default_rng(1).normal(size=(4000, 5)))
    assert np.quantile(p, [0.05, 0.25, 0.5, 0.75, 0.95]) == pytest.approx([0.05, 0.25, 0.5, 0.75, 0.95], abs=0.025)


def test_equal_differences_are_certain_and_none_at_all_are_no_difference():
    assert paired_p(np.array([[0.1, 0.1, 0.1], [0, 0, 0]])).tolist() == [0, 1]


def test_intervals_are_those_of_the_summary():
    numbers = np.random.default_rng(2).normal(size=(6, 5))
    mean, half, n = intervals(numbers)
    for row, m, h, count in zip(numbers, mean, half, n, strict=True):
        assert (m, h) == pytest.approx(interval(row.tolist())) and count == 5


def test_interval_of_one_seed_is_none_and_what_is_not_finite_is_left_out():
    mean, half, n = intervals(np.array([[0.9, NAN, NAN], [0.9, 0.8, np.inf], [NAN, NAN, NAN]]))
    assert mean == pytest.approx([0.9, 0.85, NAN], nan_ok=True)
    assert half == pytest.approx([NAN, 12.706205 * 0.05, NAN], nan_ok=True)
    assert n.tolist() == [1, 2, 0]


def test_holm_is_the_papers_step_down():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.9])) == pytest.approx([1, 1])


def test_holm_keeps_false_alarms_below_one_in_twenty():
    """Four equal values, six pairs: some pair is called different in at most 5 % of sweeps."""
    noise = np.random.default_rng(3).normal(size=(1500, 4, 1, 6))
    assert np.mean([(pairs(cells).holm < 0.05).any() for cells in noise]) < 0.06
    assert np.mean([(pairs(cells).p < 0.05).any() for cells in noise]) > 0.12


# --- effects


def grid(values, rests, seeds, number):
    """cells [V, R, S] from number(v, r, s)."""
    return np.array([[[number(v, r, s) for s in range(seeds)] for r in range(rests)] for v in range(values)], float)


def everywhere(cells):
    return np.ones(cells.shape, dtype=bool)


def test_effect_averages_over_the_other_keys_then_over_seeds():
    """Values 10 apart, combinations 100 apart, seeds 0, 1, 2: means 50, 60 and s = 1, so ± 4.302653/√3."""
    cells = grid(2, 2, 3, lambda v, r, s: 10 * v + 100 * r + s - 1)
    found = effect(cells, everywhere(cells))
    assert found.mean.tolist() == [50, 60] and found.paired.all()
    assert found.half == pytest.approx(4.302653 / np.sqrt(3), abs=1e-6)


def test_failed_job_shifts_no_comparison():
    """Were its cell only left out, the second value's mean would go from 61 to 52.7."""
    cells = grid(2, 3, 3, lambda v, r, s: 10 * v + 50 * r + s)
    cells[1, 2, 0] = NAN
    found = effect(cells, everywhere(cells))
    assert found.mean[1] - found.mean[0] == pytest.approx(10)
    assert found.kept.tolist() == [[True] * 3, [True] * 3, [False] * 3] and found.paired.all()
    assert pairs(cells).mean == pytest.approx([-10])


def test_seed_is_left_out_where_that_keeps_more():
    have = np.ones((4, 10), dtype=bool)
    have[:3, 7] = False
    assert complete_block(have).sum() == 36 and not complete_block(have)[:, 7].any()


def test_combination_that_nobody_completed_costs_no_seed():
    have = np.ones((3, 4), dtype=bool)
    have[0] = False
    assert complete_block(have).tolist() == [[False] * 4, [True] * 4, [True] * 4]
    have[1, 2] = False
    assert complete_block(have).sum() == 4  # the other combination, all its seeds


def test_block_is_full_whatever_is_missing_and_blocks_do_not_mix():
    have = np.random.default_rng(5).random((200, 6, 5)) < np.linspace(0, 1, 200)[:, None, None]
    found = complete_block(have)
    for one, block in zip(have, found, strict=True):
        assert np.array_equal(block, np.outer(block.any(1), block.any(0))) and not (block & ~one).any()
        assert block.any() == one.any()
        assert np.array_equal(block, complete_block(one))


def test_value_that_mostly_fails_stands_alone_and_costs_the_others_nothing():
    cells = grid(3, 4, 5, lambda v, r, s: v + r + 0.1 * s)
    cells[2, :3] = NAN
    found = effect(cells, everywhere(cells))
    assert found.paired.tolist() == [True, True, False]
    assert found.kept.all()
    assert found.mean[2] == pytest.approx(2 + 3 + 0.2)


def test_values_that_share_nothing_are_not_called_paired():
    cells = np.full((2, 2, 3), NAN)
    cells[0, 0], cells[1, 1] = 0.5, 0.7
    found = effect(cells, np.isfinite(cells))
    assert not found.paired.any() and found.mean == pytest.approx([0.5, 0.7])
    assert pairs(cells) is None


def test_small_sweep_beside_a_large_one_is_compared_over_what_both_ran():
    cells = grid(2, 5, 3, lambda v, r, s: v + 10 * r + s)
    cells[1, 1:] = NAN
    found = effect(cells, np.isfinite(cells))
    assert found.paired.all() and found.mean.tolist() == [1, 2]


def test_value_without_any_number_has_no_mean():
    cells = grid(3, 1, 3, lambda v, r, s: v + s)
    cells[2] = NAN
    found = effect(cells, everywhere(cells))
    assert found.mean.tolist()[:2] == [1, 2] and np.isnan(found.mean[2]) and not found.paired[2]


def test_pairs_are_compared_seed_by_seed():
    """Seeds differ by 10, values by 1 ± 0.1: told apart in pairs, not otherwise."""
    wobble = np.array([0.1, -0.1, 0.05, -0.05, 0.0])
    cells = np.stack([10 * np.arange(5.0), 10 * np.arange(5.0) + 1 + wobble])[:, None]
    (p,) = pairs(cells).p
    assert p == pytest.approx(reference_p(1 / np.sqrt(wobble.var(ddof=1) / 5), 4), rel=1e-4) and p < 1e-4
    assert effect(cells, everywhere(cells)).half.min() > 10


def test_one_seed_gives_no_comparison():
    assert pairs(np.zeros((3, 2, 1))) is None


def test_all_pairs_of_many_values_equal_those_one_by_one():
    cells = np.random.default_rng(4).normal(size=(12, 3, 4))
    found = pairs(cells)
    assert len(found.p) == 66
    for k in (0, 17, 65):
        alone = paired_p((cells[found.a[k]] - cells[found.b[k]]).mean(0))
        assert found.p[k] == pytest.approx(float(alone))
