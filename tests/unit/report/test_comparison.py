"""What is told of findings beside their table."""

from __future__ import annotations

from luthier.core.evidence import Finding
from luthier.report.comparison import never_found


def recall(value: float, group: str | None, subject: str = "tuned", check: str = "tagging") -> Finding:
    return Finding(check, "recall", subject, value, None, None, 10, "higher", group)


def test_a_kind_that_is_never_found_is_named() -> None:
    found = [recall(0.9, None), recall(1.0, "person"), recall(0.0, "town"), recall(0.0, "person", "base")]
    assert never_found(found) == ["Of 'town' nothing was found (tagging)."]
    assert never_found(found[:2]) == []


def test_of_many_classes_some_are_named() -> None:
    found = [recall(0.0, f"c{number}", check="classification") for number in range(7)]
    assert never_found(found) == ["Of 'c0', 'c1', 'c2', 'c3', 'c4' and 2 more nothing was found (classification)."]
