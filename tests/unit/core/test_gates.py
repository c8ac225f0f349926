"""Gates: their grammar and their verdicts, by hand."""

from __future__ import annotations

import math

import pytest

from luthier.core.errors import Problem
from luthier.core.evidence import Finding
from luthier.core.gates import Gate, judge, parse


def finding(subject: str, value: float, low: float | None = None, high: float | None = None, **more: object) -> Finding:
    return Finding("text_match", "exact", subject, value, low, high, 50, "higher", **more)  # type: ignore[arg-type]


FOUND = [
    finding("base", 0.20, 0.10, 0.30),
    finding("tuned", 0.50, 0.40, 0.60),
    finding("change", 0.30, 0.15, 0.45),
    finding("tuned", 0.99, group="short"),
]


@pytest.mark.parametrize(
    ("text", "holds", "value", "limit"),
    [
        ("text_match.exact >= base + 0.30", True, 0.50, 0.50),
        ("text_match.exact > base + 0.30", False, 0.50, 0.50),
        ("text_match.exact.low >= 2 * base", True, 0.40, 0.40),
        ("text_match.exact.change.low > 0", True, 0.15, 0.0),
        ("text_match.exact.base.high <= 0.3", True, 0.30, 0.30),
        ("text_match.exact.high < (base + 1) / 2", False, 0.60, 0.60),
        ("text_match.exact >= -base", True, 0.50, -0.20),
    ],
)
def test_verdicts(text: str, holds: bool, value: float, limit: float) -> None:
    gate = parse(text)
    assert isinstance(gate, Gate)
    verdict = judge(gate, FOUND)
    assert verdict.holds is holds
    assert verdict.value == pytest.approx(value, abs=1e-15)
    assert verdict.limit == pytest.approx(limit, abs=1e-15)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("text_match.bleu > 1", "text_match measured exact"),
        ("text_match.exact.merged > 0", "not measured for merged"),
        ("text_match.exact > 1 / (base - 0.2)", "divides by zero"),
        ("forgetting.perplexity < base", "measured nothing"),
    ],
)
def test_what_was_not_measured_does_not_hold(text: str, note: str) -> None:
    gate = parse(text)
    assert isinstance(gate, Gate)
    verdict = judge(gate, FOUND)
    assert not verdict.holds
    assert verdict.note is not None
    assert note in verdict.note


def test_an_undefined_value_never_holds() -> None:
    gate = parse("text_match.exact.low >= 0")
    assert isinstance(gate, Gate)
    assert not judge(gate, [finding("tuned", 0.5)]).holds
    assert not judge(parse("text_match.exact >= 0"), [finding("tuned", math.nan)]).holds  # type: ignore[arg-type]


def test_without_a_subject_every_one_that_is_there_must_hold() -> None:
    """Parity has no tuned of its own: what merging breaks must not hide behind what loads again."""
    gate = parse("parity.max_difference <= 1e-5")
    assert isinstance(gate, Gate)

    def parity(merged: float, reloaded: float) -> list[Finding]:
        values = {"merged": merged, "reloaded": reloaded}
        return [Finding("parity", "max_difference", s, v, None, None, 8, "lower") for s, v in values.items()]

    assert judge(gate, parity(1e-6, 2e-6)).holds
    for values in ((1e-2, 2e-6), (1e-6, 1e-2), (math.nan, 1e-6)):
        verdict = judge(gate, parity(*values))
        assert not verdict.holds
        assert verdict.value in (1e-2, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "good",
        "a >= 1",
        "a.b = 1",
        "a.b >= one",
        "a.b >= __import__('os')",
        "a.b >= True",
        "a.b >= base ** 2",
        "a.b >=",
        "a.b > 1 / 0",
        "a.b > 1e400",
        "a.b > 1" + "0" * 400,
        "a.b > " + "-" * 5000 + "1",
        "a.b > " + "(" * 300 + "1" + ")" * 300,
    ],
)
def test_what_is_no_gate(text: str) -> None:
    assert isinstance(parse(text), Problem)
