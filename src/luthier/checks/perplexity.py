"""How well the model predicts held-out text: perplexity, and bits a byte.

Perplexity is exp of the mean negative log-probability (nats) of the supervised tokens; bits a byte divides the same sum
by the UTF-8 bytes of the supervised text, so that models with other tokenizers can be compared. Lower is better. Of a
masked language model it is that of the tokens which training would hide, the same tokens whatever the run's seed. Bad
answers of feedback are no items: they are to become less likely.
Source: Jelinek et al. 1977; bits a byte as in Gao et al. 2020 (arXiv:2101.00027), section 3.1.
Errors: a DataError where no item has anything to predict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from ..core.errors import DataError
from ..core.evidence import Check, CheckContext, Measure, Scores, Subject
from ..core.example import Example
from ..functional.perplexity import bits_per_byte, perplexity, predicted

__all__ = ["Perplexity"]


class Perplexity(Check):
    """The log-probability of what training would supervise, summed over all items and divided by its tokens."""

    example: ClassVar[Mapping[str, Any]] = {"limit": 500}
    tasks: ClassVar[frozenset[str]] = frozenset({"causal_lm", "masked_lm", "seq2seq"})
    limit: int | None = Field(None, gt=0, description="at most so many items, chosen by their ids")

    def examples(self, test: Sequence[Example], context: CheckContext) -> Sequence[Example]:
        wanted = [example for example in test if "completion" not in example.parts or example.target != "bad"]
        return context.choose(wanted, self.limit)

    def measure(self, subject: Subject, examples: Sequence[Example], context: CheckContext) -> Scores:
        chosen, numbers = predicted(subject, examples)
        if not chosen:
            raise DataError(
                f"none of the {len(examples)} items has anything to predict",
                expected="test items with text, or with a turn that is learned",
                remedy="set data.test, and see with `luthier plan` what of it is learned",
            )
        numbers = np.column_stack([numbers, [_bytes(example) for example in chosen]])
        without = len(examples) - len(chosen)
        note = subject.about + (f"; {without} items without anything to predict" if without else "")
        if "hidden" in context.facts:
            note += f"; of the {context.facts['hidden']:.0%} of tokens that are hidden"
        return context.scores(chosen, {"log_probability": numbers}, note=note)

    def measures(self, facts: Mapping[str, Any]) -> Sequence[Measure]:
        found = [Measure("perplexity", "lower", perplexity, source="log_probability")]
        if "hidden" not in facts:  # a part of the tokens says nothing of all bytes
            found.append(Measure("bits_per_byte", "lower", bits_per_byte, source="log_probability"))
        return found


def _bytes(example: Example) -> int:
    """UTF-8 bytes of what is supervised: the text, the trained turns, or the best answer."""
    turns = next((example.parts[name] for name in ("messages", "chosen", "completion") if name in example.parts), None)
    if isinstance(turns, tuple):
        return sum(len(turn.content.encode()) for turn in turns if turn.trained)
    return len(example.text().encode())
