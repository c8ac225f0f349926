"""Wins, correlation and the area under the curve, beside scipy's and scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import roc_auc_score

from luthier.functional.pair_statistics import area_under_curve, correlation, wins
from luthier.functional.statistics import Resampling


def test_a_tie_counts_half() -> None:
    assert wins(np.array([2.0, 1.0, 3.0]), np.array([1.0, 1.0, 4.0])).tolist() == [1.0, 0.5, 0.0]


def test_correlation_is_pearsons_also_by_resample() -> None:
    draw = np.random.default_rng(4)
    x = draw.normal(size=60)
    values = np.stack([x, 0.5 * x + draw.normal(size=60)], axis=1)
    assert correlation(values) == pytest.approx(pearsonr(values[:, 0], values[:, 1]).statistic, rel=1e-12)
    resampling = Resampling(60, resamples=50, seed=2)
    slow = resampling.replicates(lambda rows: pearsonr(rows[:, 0], rows[:, 1]).statistic, values)
    np.testing.assert_allclose(resampling.replicates(correlation, values), slow, rtol=1e-9)
    assert math.isnan(correlation(np.array([[1.0, 2.0], [1.0, 3.0]])))


def test_the_area_under_the_curve_is_scikit_learns() -> None:
    draw = np.random.default_rng(5)
    values = np.stack([draw.integers(0, 6, 80), draw.integers(0, 2, 80)], axis=1).astype(np.float64)
    assert area_under_curve(values) == pytest.approx(roc_auc_score(values[:, 1], values[:, 0]), rel=1e-12)
    assert math.isnan(area_under_curve(np.array([[1.0, 1.0], [2.0, 1.0]])))
