"""Holds a domain's terms against rows and tokenizer: what occurs, what it costs in tokens; weighs rows that have terms.

Facts: how many terms occur and which do not, the share of rows with a term, tokens a term before and as a token of its
own, and which terms would save most tokens: candidates for the recipe's `new_tokens`. Terms are matched as whole words,
without regard to case. Errors: DataError for a file of terms that is absent or empty; ModelError as the model's
tokenizer. Source of the measure: Gururangan et al. 2020 (arXiv:2004.10964, section 3) for a domain's vocabulary, and
fertility, tokens a word, after Rust et al. 2021 (arXiv:2012.15613).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.errors import DataError
from ...core.example import Example

__all__ = ["Lexicon"]

_LISTED = 50


class Lexicon(Step):
    """terms: a list, or a file with a term a line. Rows stay as they are but for the weight of those with a term."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    example: ClassVar[Mapping[str, Any]] = {"terms": ["violin", "sound post"], "weight": 2.0}

    terms: str | tuple[str, ...] = Field(description="a list, or the path of a file with a term a line")
    model: str | None = Field(None, description="whose tokenizer the terms are held against; None: of no one")
    weight: float = Field(1.0, gt=0, description="training rows with a term count so many times in the loss")
    least: int = Field(5, ge=1, description="times that a term occurs at least before it is proposed as a token")

    def outside(self) -> Sequence[str]:
        return [self.terms] if isinstance(self.terms, str) else []

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        terms = self._terms()
        pattern = _pattern(terms)
        seen: Counter[str] = Counter()
        rows = having = 0
        for example in examples:
            rows += 1
            found = [match.casefold() for match in pattern.findall(" ".join(example.text().split()))]
            seen.update(found)
            having += bool(found)
            if found and self.weight != 1.0 and context.split == "train":
                origin = replace(example.origin, steps=(*example.origin.steps, self.component_name()))
                weighed = replace(example, weight=example.weight * self.weight, origin=origin)
                context.ledger.change(example, weighed, f"weighed {self.weight:g} times: {found[0]}")
                yield weighed
            else:
                yield example
        if rows:
            absent = [term for term in terms if not seen[term.casefold()]]
            context.facts.update(
                terms=len(terms),
                terms_that_occur=len(terms) - len(absent),
                absent=absent[:_LISTED],
                rows_with_a_term=having / rows,
                occurrences=seen.total(),
            )
            if self.model is not None:
                context.facts.update(self._cost(terms, seen))

    def _terms(self) -> list[str]:
        given: Iterable[str] = self.terms
        if isinstance(self.terms, str):
            try:
                given = Path(self.terms).read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise DataError(
                    f"the terms cannot be read: {error}", where=self.terms, expected="a text file with a term a line"
                ) from error
        by_form: dict[str, str] = {}
        for term in given:
            words = " ".join(term.split())
            if words and not words.startswith("#"):
                by_form.setdefault(words.casefold(), words)
        if not by_form:
            where = self.terms if isinstance(self.terms, str) else "terms"
            raise DataError("there is no term", where=where, expected="a term a line, # before remarks")
        return list(by_form.values())

    def _cost(self, terms: list[str], seen: Mapping[str, int]) -> dict[str, Any]:
        """Tokens of the terms within text, and which of them would save most as tokens of their own."""
        from ...models.source import fetch, resolve
        from ...models.tokens import load_tokenizer

        assert self.model is not None
        folder = fetch(resolve(self.model)).folder
        assert folder is not None
        tokenizer, _ = load_tokenizer(folder)
        # Within a text a word follows a space, which byte-level tokenizers fold into its first piece.
        before = len(tokenizer("a", add_special_tokens=False)["input_ids"])
        pieces = {term: len(tokenizer(f"a {term}", add_special_tokens=False)["input_ids"]) - before for term in terms}
        counted = {term: seen[term.casefold()] for term in terms}
        total, occurrences = sum(pieces[term] * counted[term] for term in terms), sum(counted.values())
        saved = {term: (pieces[term] - 1) * counted[term] for term in terms if counted[term] >= self.least}
        best = sorted((term for term in saved if saved[term] > 0), key=lambda term: (-saved[term], term))[:_LISTED]
        return {
            "tokens_a_term": total / occurrences if occurrences else None,
            "words_a_term": sum(len(term.split()) * counted[term] for term in terms) / occurrences
            if occurrences
            else None,
            "new_tokens": best,
            "tokens_saved_by_them": sum(saved[term] for term in best),
        }


def _pattern(terms: Iterable[str]) -> re.Pattern[str]:
    """The terms as whole words; of two that begin alike the longer."""
    longest = sorted(terms, key=len, reverse=True)
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, longest)) + r")(?!\w)", re.IGNORECASE)
