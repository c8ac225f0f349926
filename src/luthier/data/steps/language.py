"""Keeps rows in the wanted languages; a row whose language cannot be told stays, and is noted.

Judged are the words of the whole row, without code, JSON, addresses and numbers. A row leaves where its most likely
language is not wanted and the probabilities of all unwanted languages add up to `confidence`. Units: `shortest` counts
letters, those of Chinese, Japanese and Korean as three. Facts: how many rows are in which language. Errors: DataError
for a code that is no known language. Source: py3langid (Lui and Baldwin 2012), chosen by `experiments.language`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.example import Example
from ..text.language import NO_LANGUAGE, letters, probabilities, prose, wanted

__all__ = ["Language"]


class Language(Step):
    """Identifies one row at a time, offline; scope row."""

    scope: ClassVar[Literal["row", "corpus"]] = "row"
    example: ClassVar[Mapping[str, Any]] = {"keep": ["en", "de"], "confidence": 0.9}

    keep: tuple[str, ...] = Field(("en",), min_length=1, description="ISO 639 codes of the languages that stay")
    confidence: float = Field(0.8, gt=0, le=1, description="how sure it must be that a row is in none of them")
    shortest: int = Field(25, ge=1, description="rows with fewer letters stay: they are too short to tell")

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        keep = wanted(self.keep)
        found: Counter[str] = Counter()
        for example in examples:
            words = prose(example.text())
            count = letters(words)
            if count < self.shortest:
                found["unknown"] += 1
                context.ledger.note(example, f"language unknown: {count} letters")
                yield example
                continue
            shares = probabilities(words)
            best = next(iter(shares))
            outside = 1 - sum(shares.get(code, 0) for code in keep)
            if best in keep:
                found[best] += 1
            elif best != NO_LANGUAGE and outside >= self.confidence:
                found[best] += 1
                context.ledger.drop(example, f"another language: {best} ({shares[best]:.2f})")
                continue
            else:
                found["unknown"] += 1
                context.ledger.note(example, f"language unknown: {best} ({shares[best]:.2f})")
            yield example
        context.facts["languages"] = dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
