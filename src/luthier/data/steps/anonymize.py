"""Replaces personal data: cards, accounts, national numbers, addresses, telephone numbers, dates of birth, names.

Numbers are found by form, check digits and the words beside them (data/personal); names, organizations, places and
addresses by a tagging model, where a folder names one. What was found in one text of a row is replaced in all of its
texts. Of spans that overlap the longest is taken, then the most certain. Pseudonyms are of the same kind and form and
the same for the same value under one key, in every row and file; the key lies outside of the run, in the variable
LUTHIER_ANONYMIZE_KEY or in a file for its owner alone, which is made where it is absent. The ledger holds kinds in
place of what was found, here and in what earlier steps wrote. Pseudonyms are no anonymity: whoever has the key, or
knows a row otherwise, can tell people. Errors: DataError for ids that are personal data, a short or open key;
MissingExtra. Source: checks of the issuing authorities (data/personal/checksums.py); HMAC, RFC 2104; Lison et al.
2021 on the limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from ...core.contracts import Step, StepContext
from ...core.errors import DataError, nearest
from ...core.example import Example
from ..personal import patterns, presidio, tagger
from ..personal.key import read_key
from ..personal.pseudonyms import Pseudonyms
from ..personal.replace import masked, without, written_anew
from ..personal.rows import changed, texts_of
from ..personal.spans import Finder, Span, repeated, settle

__all__ = ["Anonymize"]

_KINDS = (*patterns.KINDS, *dict.fromkeys(tagger.KINDS.values()))
_REFUSED = ("email", "iban", "us_ssn", "credit_card")
"""Kinds that no id may be."""
_ENOUGH = {"patterns": 0.5, "presidio": 0.35}


class Anonymize(Step):
    """Looks at one row at a time; the key makes pseudonyms consistent. Measured rows are anonymized as well."""

    scope: ClassVar[Literal["row", "corpus"]] = "row"
    example: ClassVar[Mapping[str, Any]] = {"replace": "mask", "kinds": ["email", "phone", "credit_card"]}

    engine: Literal["patterns", "presidio"] = Field(
        "patterns", description="what finds numbers and addresses: our patterns, or presidio's (extra presidio)"
    )
    model: str | None = Field(None, description="folder of a tagging model for names, organizations, places, addresses")
    kinds: tuple[str, ...] | None = Field(None, description="the kinds to replace; all if not given")
    replace: Literal["pseudonym", "mask", "remove"] = Field(
        "pseudonym", description="another value of the same kind, the kind in brackets, or nothing"
    )
    certainty: float | None = Field(
        None, ge=0, le=1, description="the least certainty; if not given 0.5, with presidio 0.35"
    )
    regions: tuple[str, ...] = Field(
        ("US", "GB", "DE", "FR", "IN"), description="countries whose telephone numbers are known without a word beside"
    )
    key_file: str | None = Field(None, description="file of the key, outside of the run; made where it is absent")

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for kind in kinds or ():
            if kind not in _KINDS:
                near = nearest(kind, _KINDS)
                raise ValueError(f"no kind '{kind}'" + (f"; did you mean '{near}'?" if near else ""))
        return kinds

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        counts: Counter[str] = Counter()
        rows, pseudonyms = 0, None
        for example in examples:
            self._refuse_id(example)
            found = self._found(example)
            if not found:
                yield example
                continue
            if pseudonyms is None and self.replace == "pseudonym":
                pseudonyms = Pseudonyms(read_key(None if self.key_file is None else Path(self.key_file)))
                context.facts["key"] = pseudonyms.key.source
            kinds = Counter(span.kind for text in texts_of(example) for span in found[text])
            counts += kinds
            rows += 1
            told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
            before, after = _masked(example, found), self._marked(self._replaced(example, found, pseudonyms))
            if not after.text().strip():
                context.ledger.drop(before, f"nothing but personal data: {told}")
                continue
            context.ledger.change(before, after, f"personal data: {told}")
            yield after
        if rows:
            context.facts.update(rows=rows, found=dict(sorted(counts.items())))

    def outside(self) -> Sequence[str]:
        return () if self.model is None else (self.model,)

    def hide(self, text: str) -> str:
        """The text with kinds in place of personal data: for what earlier steps wrote into the ledger."""
        return masked(text, self._spans(text))

    def _refuse_id(self, example: Example) -> None:
        # These kinds have a form: the tagger, which takes far longer, is not asked.
        if any(span.kind in _REFUSED for span in self._spans(example.id, self._finders()[:1])):
            raise DataError(
                "the rows' ids are personal data: an id stands in every record of what became of a row",
                where=str(example.origin),
                remedy="have rows numbered, columns: {id: ''}, or name another column",
            )

    def _spans(self, text: str, finders: Sequence[Finder] | None = None) -> list[Span]:
        least = _ENOUGH[self.engine] if self.certainty is None else self.certainty
        found = [span for finder in finders or self._finders() for span in finder.find(text)]
        return settle(found, least)

    def _finders(self) -> Sequence[Finder]:
        return _finders(self.engine, self.model, frozenset(self.kinds or _KINDS), self.regions)

    def _found(self, example: Example) -> dict[str, list[Span]]:
        """The spans of each text of the row; what one text tells (by a word beside it) counts in all of them."""
        found = {text: self._spans(text) for text in texts_of(example)}
        if not any(found.values()):
            return {}
        values = {text[span.start : span.end]: span.kind for text, spans in found.items() for span in spans}
        # An initial that stands alone is a word elsewhere: "A", "I".
        values = {value: kind for value, kind in values.items() if len(value) > 1}
        return {text: settle([*spans, *repeated(text, values)], 0) for text, spans in found.items()}

    def _replaced(self, example: Example, found: Mapping[str, list[Span]], pseudonyms: Pseudonyms | None) -> Example:
        if pseudonyms is not None:
            return changed(example, lambda text: written_anew(text, found[text], pseudonyms.of))
        if self.replace == "remove" and "tokens" not in example.parts:
            return changed(example, lambda text: without(text, found[text]))
        return _masked(example, found)

    def _marked(self, example: Example) -> Example:
        steps = (*example.origin.steps, self.component_name())
        return replace(example, origin=replace(example.origin, steps=steps))


def _masked(example: Example, found: Mapping[str, list[Span]]) -> Example:
    each_word = "tokens" in example.parts  # as many words as tags
    return changed(example, lambda text: masked(text, found[text], each_word=each_word))


@cache
def _finders(engine: str, model: str | None, kinds: frozenset[str], regions: tuple[str, ...]) -> tuple[Finder, ...]:
    first: Finder = patterns.Patterns(kinds, regions) if engine == "patterns" else presidio.Presidio(kinds)
    return (first,) if model is None else (first, tagger.Tagger(Path(model), kinds))
