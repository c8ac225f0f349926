"""Findings from scores: values, intervals, the right test for the right measure, and what is refused or undefined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from luthier.core.errors import DataError
from luthier.core.evidence import Measure, Scores
from luthier.evaluate.findings import adjust, findings
from luthier.functional.statistics import OfSums, row_mean

HITS = Measure("hits", "higher", row_mean, binary=True)
SCORE = Measure("score", "higher", row_mean)
RATIO = OfSums(lambda sums, rows: sums[:, 0] / sums[:, 1])


def scores(name: str, column, **more) -> Scores:
    column = np.asarray(column, dtype=float)
    values = column[:, None] if column.ndim == 1 else column
    return Scores(tuple(f"r{i}" for i in range(len(values))), {name: values}, **more)


def by_subject(found, metric=None):
    return {finding.subject: finding for finding in found if metric in (None, finding.metric)}


def test_hits_are_compared_by_mcnemar():
    base = [0] * 30 + [1] * 10
    tuned = [1] * 12 + [0] * 18 + [1] * 7 + [0] * 3
    found = by_subject(findings({"base": scores("hits", base), "tuned": scores("hits", tuned)}, [HITS], "check", 1))
    assert found["base"].value == 10 / 40
    assert found["tuned"].value == 19 / 40
    change = found["change"]
    assert change.value == pytest.approx(9 / 40)
    assert change.p == pytest.approx(stats.binomtest(3, 15).pvalue)
    assert change.against == "base"
    assert change.low < change.value < change.high
    assert "12 rows gained, 3 lost" in change.note


def test_means_are_compared_by_sign_flips_and_ratios_by_bootstrap():
    generator = np.random.default_rng(0)
    base, tuned = generator.random(50), generator.random(50) + 0.3
    found = by_subject(findings({"base": scores("score", base), "tuned": scores("score", tuned)}, [SCORE], "c", 1))
    assert found["change"].value == pytest.approx((tuned - base).mean())
    assert found["change"].p < 0.01
    assert found["change"].note == "paired sign flips"
    pair = {s: scores("ratio", generator.random((50, 2)) + 0.5) for s in ("base", "tuned")}
    change = by_subject(findings(pair, [Measure("ratio", "lower", RATIO)], "c", 1))["change"]
    assert change.note == "paired bootstrap"
    assert 0 < change.p <= 1


def test_rows_are_paired_by_name_not_by_place():
    values = np.arange(10.0)
    base = scores("score", values)
    tuned = Scores(base.rows[::-1], {"score": values[::-1, None] + 1})
    change = by_subject(findings({"base": base, "tuned": tuned}, [SCORE], "c", 1))["change"]
    assert (change.value, change.low, change.high) == pytest.approx((1.0, 1.0, 1.0), rel=1e-14)


def test_rows_that_only_one_subject_has_are_refused():
    base = scores("score", np.arange(5.0))
    tuned = Scores((*base.rows[:4], "other"), base.values)
    with pytest.raises(DataError, match="1 only in base, 1 only in tuned, such as 'r4'"):
        findings({"base": base, "tuned": tuned}, [SCORE], "c", 1)
    with pytest.raises(DataError, match="hold 1 rows twice"):
        findings({"base": Scores(("a", "a"), {"score": np.zeros((2, 1))})}, [SCORE], "c", 1)


def test_a_measure_against_another_subject_sees_both_and_is_reported_for_its_own_only():
    base, tuned = scores("pair", [[2.0, 4.0], [2.0, 4.0]]), scores("pair", [[3.0, 4.0], [3.0, 4.0]])
    ratio = OfSums(lambda sums, rows: (sums[:, 0] / sums[:, 1]) / (sums[:, 2] / sums[:, 3]))
    measure = Measure("ratio", "lower", ratio, source="pair", against="base", of=("tuned",), paired=False)
    found = findings({"base": base, "tuned": tuned}, [measure], "c", 1)
    assert [(f.subject, f.value, f.against) for f in found] == [("tuned", 1.5, "base")]
    assert findings({"tuned": tuned}, [measure], "c", 1) == []


def test_undefined_stays_undefined_and_says_why():
    pair = {s: scores("ratio", np.zeros((4, 2))) for s in ("base", "tuned")}
    for finding in findings(pair, [Measure("ratio", "lower", RATIO)], "c", 1):
        assert math.isnan(finding.value)
        assert (finding.low, finding.high, finding.p) == (None, None, None)
        assert "undefined" in finding.note
    empty = findings({"tuned": scores("score", np.zeros((0, 1)))}, [SCORE], "c", 1)
    assert math.isnan(empty[0].value)
    assert empty[0].note == "undefined: no rows to measure"


def test_some_undefined_resamples_are_counted():
    # One row carries the denominator: a resample without it divides by zero, about (1 - 1/6)^6 = 33 % of them.
    given = {"tuned": scores("ratio", [[0.0, 0.0]] * 5 + [[1.0, 1.0]])}
    found = findings(given, [Measure("ratio", "lower", RATIO)], "c", 1)[0]
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    undefined = int(found.note.removeprefix("undefined in ").split()[0])
    assert abs(undefined - 1000 * (5 / 6) ** 6) < 60  # four standard deviations


def test_all_hits_or_none_get_exact_bounds():
    found = findings({"tuned": scores("hits", np.ones(50))}, [HITS], "c", 1)[0]
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(stats.binomtest(50, 50).proportion_ci(method="exact").low)
    none = findings({"tuned": scores("hits", np.zeros(50))}, [HITS], "c", 1)[0]
    assert none.high == pytest.approx(stats.binomtest(0, 50).proportion_ci(method="exact").high)


def test_shares_that_are_all_alike_get_exact_bounds_too():
    """Rows of a share may lie between 0 and 1 (a tie is half a win); where all are at one end, so are all resamples."""
    share = Measure("score", "higher", row_mean, share=True)
    upper = stats.binomtest(0, 20).proportion_ci(method="exact").high
    given = {"base": scores("score", np.zeros(20)), "tuned": scores("score", np.ones(20))}
    found = by_subject(findings(given, [share], "c", 1))
    assert (found["base"].low, found["base"].high) == pytest.approx((0.0, upper))
    assert (found["tuned"].low, found["tuned"].high) == pytest.approx((1 - upper, 1.0))
    assert (found["change"].low, found["change"].high) == pytest.approx((1 - 2 * upper, 1.0))
    assert "sign flips" in found["change"].note
    ties = findings({"tuned": scores("score", np.full(20, 0.5))}, [share], "c", 1)[0]
    assert (ties.low, ties.high) == pytest.approx((0.5 * (1 - upper), 0.5 * (1 + upper)))


def test_a_share_of_some_rows_is_bounded_by_those_rows():
    """Seven rows of a class, all found: as sure as seven hits, not as fifty; and it rests on seven."""
    rows = np.zeros((50, 2))
    rows[:7] = 1
    recall = Measure(
        "recall", "higher", OfSums(lambda sums, rows: sums[:, 0] / sums[:, 1]), "hits", trials=lambda given: given[:, 1]
    )
    found = findings({"tuned": scores("hits", rows)}, [recall], "c", 1)[0]
    lower = stats.binomtest(7, 7).proportion_ci(method="exact").low
    assert (found.value, found.high, found.n) == (1.0, 1.0, 7)
    assert found.low == pytest.approx(lower)
    rows[:7, 0] = 0
    found = findings({"tuned": scores("hits", rows)}, [recall], "c", 1)[0]
    assert (found.value, found.low, found.high) == pytest.approx((0.0, 0.0, 1 - lower))


def test_a_change_that_no_row_contradicts_is_not_certain():
    upper = stats.binomtest(0, 50).proportion_ci(method="exact").high
    still = findings({"base": scores("hits", np.zeros(50)), "tuned": scores("hits", np.zeros(50))}, [HITS], "c", 1)[2]
    assert (still.value, still.low, still.high, still.p) == pytest.approx((0.0, -upper, upper, 1.0))
    learned = findings({"base": scores("hits", np.zeros(50)), "tuned": scores("hits", np.ones(50))}, [HITS], "c", 1)[2]
    assert (learned.value, learned.low, learned.high) == pytest.approx((1.0, 1 - 2 * upper, 1.0))


def test_clusters_are_resampled_together_and_flipped_together():
    names = tuple("abcd"[i // 10] for i in range(40))
    base, tuned = scores("hits", np.zeros(40), clusters=names), scores("hits", np.ones(40), clusters=names)
    change = by_subject(findings({"base": base, "tuned": tuned}, [HITS], "c", 1))["change"]
    assert change.p == 2 / 16  # four clusters: all signs equal in 2 of 16 patterns, however many rows there are
    assert "by 4 clusters" in change.note
    upper = stats.binomtest(0, 4).proportion_ci(method="exact").high
    assert (change.value, change.low, change.high) == pytest.approx((1.0, max(-1.0, 1 - 2 * upper), 1.0))


def test_no_interval_where_a_measure_has_none():
    measure = Measure("most", "lower", lambda values: float(values.max()), source="score", interval=False, paired=False)
    found = findings({"tuned": scores("score", [1.0, 3.0])}, [measure], "c", 1)[0]
    assert (found.value, found.low, found.high) == (3.0, None, None)


def test_groups_and_notes_reach_the_findings():
    grouped = Measure("recall", "higher", row_mean, source="score", group="bridge", paired=False)
    own = scores("score", [0.0, 1.0], note="greedy")
    found = findings({"tuned": own}, [SCORE, grouped], "c", 1)
    assert (found[0].note, found[0].group) == ("greedy", None)
    assert (found[1].note, found[1].group) == (None, "bridge")


def test_findings_depend_on_the_seed_and_the_check_only():
    given = {"tuned": scores("score", np.random.default_rng(0).random(30))}
    assert findings(given, [SCORE], "c", 1) == findings(given, [SCORE], "c", 1)
    assert findings(given, [SCORE], "c", 1)[0].low != findings(given, [SCORE], "c", 2)[0].low
    assert findings(given, [SCORE], "c", 1)[0].low != findings(given, [SCORE], "d", 1)[0].low


def test_adjust_is_holm_over_what_was_tested():
    generator = np.random.default_rng(3)
    rows = tuple(map(str, range(40)))
    base = {"x": generator.random((40, 1)), "y": generator.random((40, 1))}
    tuned = {"x": base["x"] + generator.normal(0.1, 1, (40, 1)), "y": base["y"] + generator.normal(0.4, 1, (40, 1))}
    pairs = {"base": Scores(rows, base), "tuned": Scores(rows, tuned)}
    found = findings(pairs, [Measure("x", "higher", row_mean), Measure("y", "higher", row_mean)], "c", 1)
    raw = [finding.p for finding in found if finding.p is not None]
    adjusted = adjust(found)
    low, high = min(raw), max(raw)
    expected = [min(1, 2 * low), max(min(1, 2 * low), high)]
    assert sorted(f.p for f in adjusted if f.p is not None) == pytest.approx(expected)
    assert [f.p for f in adjusted if f.subject != "change"] == [None] * 4
    assert all("Holm over 2" in f.note for f in adjusted if f.p is not None)
