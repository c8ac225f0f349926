"""Intervals and tests against scipy, numbers worked out by hand, and their own coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from luthier.functional import statistics as ours
from luthier.functional.statistics import OfSums, Resampling, bootstrap, paired_bootstrap, row_mean


def skewed(rows: int = 60, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).exponential(size=(rows, 1))


@pytest.mark.parametrize(("bca", "method"), [(True, "BCa"), (False, "percentile")])
def test_bootstrap_agrees_with_scipy(bca, method):
    values = skewed()
    mine = bootstrap(values, row_mean, resamples=20_000, seed=1, bca=bca)
    theirs = stats.bootstrap((values[:, 0],), np.mean, n_resamples=20_000, method=method, random_state=2)
    low, high = theirs.confidence_interval
    spread = high - low
    assert mine.low == pytest.approx(low, abs=0.03 * spread)  # two draws of 20,000 differ by about 1 % of the width
    assert mine.high == pytest.approx(high, abs=0.03 * spread)
    assert mine.value == values.mean()


def test_bca_formula_equals_scipys_on_the_same_replicates():
    values = skewed(25)
    resampling = Resampling(25, resamples=999, seed=4)
    replicates, left = resampling.replicates(row_mean, values), resampling.left_out(row_mean, values)
    low, high = ours.interval(float(values.mean()), replicates, left)
    alphas = stats._resampling._bca_interval(
        (values[:, 0],), lambda x, axis: np.mean(x, axis=axis), -1, 0.025, replicates, None, np
    )[:2]
    expected = np.quantile(replicates, [float(a) for a in alphas])
    assert [low, high] == pytest.approx(expected, rel=1e-12)


def test_sums_and_general_aggregates_see_the_same_resamples():
    values = np.random.default_rng(0).normal(size=(40, 2)) + 3
    fast = OfSums(lambda sums, rows: sums[:, 0] / sums[:, 1])
    clusters = [str(i % 7) for i in range(40)]
    for names in (None, clusters):
        resampling = Resampling(40, clusters=names, resamples=200, seed=5)
        slow = lambda x: float(x[:, 0].sum() / x[:, 1].sum())  # noqa: E731
        assert resampling.replicates(fast, values) == pytest.approx(resampling.replicates(slow, values), rel=1e-12)
        assert resampling.left_out(fast, values) == pytest.approx(resampling.left_out(slow, values), rel=1e-12)


def test_blocks_draw_the_same_as_one(monkeypatch):
    values = skewed(50)
    whole = Resampling(50, resamples=101, seed=9).replicates(row_mean, values)
    monkeypatch.setattr(ours, "_BLOCK", 50 * 10)
    assert Resampling(50, resamples=101, seed=9).replicates(row_mean, values) == pytest.approx(whole, rel=1e-14)


def test_coverage_of_the_interval_on_skewed_data():
    generator = np.random.default_rng(11)
    held = 0
    runs = 400
    for run in range(runs):
        found = bootstrap(generator.exponential(size=(50, 1)), row_mean, resamples=500, seed=run)
        held += found.low <= 1.0 <= found.high
    # 95 % nominal; BCa at n = 50 on an exponential is known to fall a little short. Binomial error here: 1.1 %.
    assert 0.90 <= held / runs <= 0.98


def test_clusters_widen_the_interval_and_cover():
    """Rows in clusters share an effect: resampling rows covers far too rarely, clusters do about right."""
    generator = np.random.default_rng(12)
    names = [str(i // 10) for i in range(300)]
    by_row = by_cluster = 0
    for run in range(200):
        values = (np.repeat(generator.normal(size=30), 10) + 0.3 * generator.normal(size=300))[:, None]
        rows = bootstrap(values, row_mean, resamples=300, seed=run)
        clusters = bootstrap(values, row_mean, clusters=names, resamples=300, seed=run)
        by_row += rows.low <= 0 <= rows.high
        by_cluster += clusters.low <= 0 <= clusters.high
    assert by_row < 120
    assert by_cluster >= 178


def test_no_interval_from_one_cluster():
    assert bootstrap(skewed(5), row_mean, clusters=["a"] * 5).low is None


def test_interval_of_values_without_spread_is_a_point():
    found = bootstrap(np.ones((20, 1)), row_mean)
    assert (found.low, found.high) == (1.0, 1.0)


def test_undefined_replicates_are_left_out_and_too_many_leave_nothing():
    replicates = np.array([1.0, 2.0, 3.0, math.nan])
    assert ours.interval(2.0, replicates) == pytest.approx((1.05, 2.95))
    assert ours.interval(2.0, np.array([1.0, math.nan, math.nan])) is None
    assert ours.interval(math.nan, replicates) is None


def test_infinite_replicates_give_an_infinite_bound():
    assert ours.interval(2.0, np.array([1.0, 2.0, 3.0, math.inf])) == (1.0, math.inf)


@pytest.mark.parametrize("scale", [1e-200, 1e117, 1e300])
def test_the_unit_does_not_matter_to_an_interval(scale):
    """The perplexity of a model that diverged is e to the hundreds; its cubes are no numbers any more."""
    values = np.random.default_rng(3).exponential(size=(12, 1))
    plain, scaled = (bootstrap(factor * values, row_mean) for factor in (1.0, scale))
    assert (scaled.low, scaled.high) == pytest.approx((plain.low * scale, plain.high * scale), rel=1e-12)


def test_paired_bootstrap_sees_a_difference_that_unpaired_noise_hides():
    generator = np.random.default_rng(1)
    first = 100 * generator.normal(size=(80, 1))
    second = first + 1 + 0.1 * generator.normal(size=(80, 1))
    found = paired_bootstrap(first, second, row_mean, Resampling(80, seed=2))
    assert 0.95 < found.low < found.value < found.high < 1.05
    assert found.p == pytest.approx(2 / 1001)


def test_two_sided_counts_zero_on_both_sides_by_hand():
    assert ours.two_sided(np.array([1.0, 2.0, 3.0, -1.0])) == pytest.approx(2 * 2 / 5)
    assert ours.two_sided(np.zeros(4)) == 1.0


def test_sign_flip_by_hand():
    # 1 + 2 + 3 = 6: of the 8 sign patterns only +++ and --- reach 6.
    assert ours.sign_flip(np.array([1.0, 2.0, 3.0])) == 2 / 8
    assert ours.sign_flip(np.array([0.0, 0.0])) == 1.0
    # In clusters (1 + 2) and 3: ++ and -- reach 6 of 4 patterns.
    assert ours.sign_flip(np.array([1.0, 2.0, 3.0]), clusters=["a", "a", "b"]) == 2 / 4


@pytest.mark.parametrize("count", [8, 40])
def test_sign_flip_agrees_with_scipy(count):
    differences = np.random.default_rng(count).normal(0.3, 1, size=count)
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=9999, random_state=1
    ).pvalue
    tolerance = 1e-12 if count <= 13 else 4 * math.sqrt(theirs * (1 - theirs) * 2 / 9999)
    assert ours.sign_flip(differences, seed=3) == pytest.approx(theirs, abs=tolerance)


def test_random_sign_flips_never_give_zero():
    assert ours.sign_flip(np.ones(40), flips=99) == 1 / 100


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 8), (5, 5), (12, 12), (3, 21)])
def test_mcnemar_is_exact_for_few(lost, gained):
    both = lost + gained
    expected = stats.binomtest(lost, both, 0.5).pvalue if both else 1.0
    assert ours.mcnemar(lost, gained) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("lost", "gained"), [(10, 15), (20, 60), (300, 340), (30, 30)])
def test_mcnemar_is_chi_square_for_many(lost, gained):
    statistic = max(abs(lost - gained) - 1, 0) ** 2 / (lost + gained)
    assert ours.mcnemar(lost, gained) == pytest.approx(stats.chi2.sf(statistic, 1), rel=1e-12)


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5 times 4, 3, 2, 1, then never decreasing.
    assert ours.holm([0.02, 0.5, 0.01, 0.03]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert ours.holm([]) == []


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 30])
def test_student_t_agrees_with_scipy(degrees):
    for t in (-3.0, 0.0, 0.7, 2.5, 40.0):
        assert ours.t_cdf(t, degrees) == pytest.approx(stats.t.cdf(t, degrees), abs=1e-14)
    assert ours.t_quantile(0.975, degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-12)


def test_equal_seeds_give_equal_intervals():
    assert bootstrap(skewed(), row_mean, seed=7) == bootstrap(skewed(), row_mean, seed=7)
    assert bootstrap(skewed(), row_mean, seed=7) != bootstrap(skewed(), row_mean, seed=8)
