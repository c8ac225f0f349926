"""Findings over seeds: mean, Student's interval, and what one seed lacks."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from luthier.core.evidence import Finding
from luthier.evaluate.repeats import spread


def finding(value: float, subject: str = "tuned", metric: str = "exact") -> Finding:
    return Finding("text_match", metric, subject, value, value - 0.1, value + 0.1, 200, "higher")


def test_mean_and_interval_agree_with_scipy():
    values = [0.91, 0.93, 0.92]
    one = spread({seed: [finding(value)] for seed, value in enumerate(values, 1)})[0]
    expected = stats.t.interval(0.95, 2, loc=sum(values) / 3, scale=stats.sem(values))
    assert (one.low, one.high) == pytest.approx(expected, rel=1e-12)
    assert one.value == pytest.approx(0.92)
    assert one.n == 3
    assert "1: 0.91, 2: 0.93, 3: 0.92" in one.note
    assert one.p is None


def test_a_change_is_tested_over_seeds():
    values = [0.11, 0.13, 0.12, 0.10]
    one = spread({seed: [finding(value, "change")] for seed, value in enumerate(values)})[0]
    assert one.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-9)


def test_one_seed_has_no_interval():
    one = spread({7: [finding(0.5)]})[0]
    assert (one.value, one.low, one.high, one.n) == (0.5, None, None, 1)


def test_a_seed_that_lacks_or_cannot_define_a_value_makes_it_undefined():
    found = spread({1: [finding(0.5), finding(0.4, metric="f1")], 2: [finding(math.nan)]})
    assert all(math.isnan(one.value) for one in found)
    assert "undefined for seed 2" in found[0].note
    assert "undefined for seed 2" in found[1].note


def test_findings_are_kept_apart_by_all_that_names_them():
    found = spread({1: [finding(0.1, "base"), finding(0.5)], 2: [finding(0.3, "base"), finding(0.7)]})
    assert {one.subject: one.value for one in found} == pytest.approx({"base": 0.2, "tuned": 0.6})
