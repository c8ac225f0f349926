"""Which items perplexity is measured on."""

from __future__ import annotations

from luthier.checks.perplexity import Perplexity
from luthier.core.evidence import CheckContext
from luthier.core.example import Example, Origin, Turn


def test_bad_answers_are_not_measured() -> None:
    """Training on feedback makes them less likely; their perplexity beside that of good ones would say nothing."""
    said = {"prompt": (Turn("user", "Late?"),), "completion": (Turn("assistant", "Yes."),)}
    rows = [Example(f"r:{n}", said, Origin("r", n), target) for n, target in enumerate(("good", "bad", 3.5, None))]
    rows.append(Example("r:9", {"text": "Fine."}, Origin("r", 9), "bad"))
    context = CheckContext({}, 1, lambda path: [])
    assert [one.id for one in Perplexity().examples(rows, context)] == ["r:0", "r:2", "r:3", "r:9"]
