"""Puts the words of classes in place of the labeled training rows, from which nothing is then learned: zero-shot.

Each class becomes one row whose text is its name in words (`card_arrival`: "card arrival"), or what `texts` says of it.
With the adaptation `classic` and its kind `centroid` a text then has the class whose words lie nearest by the frozen
encoder. With `keep` the rows stay, and a classifier from few rows knows the names too. Where no row has a class,
`texts` names them all. Source: Yin et al. 2019 (arXiv:1909.00161), section 4.1; Schopf et al. 2022 (arXiv:2211.16285)
for sentence encoders. Errors: DataError where there is no class, for one in `texts` that no labeled row has, and for
rows whose targets are no classes of texts (numbers, tags, answers).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from ...core.contracts import Step, StepContext
from ...core.errors import DataError, nearest, shortened
from ...core.example import Example, Origin
from ...functional.class_words import in_words

__all__ = ["ClassTexts"]

MARK = "{}"


class ClassTexts(Step):
    """Reads the classes of the training rows, or of `texts`, and gives a row for each, in the order of their names."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    splits: ClassVar[Literal["all", "train"]] = "train"
    example: ClassVar[Mapping[str, Any]] = {"template": "This is about {}.", "keep": True}

    texts: dict[str, Annotated[str, Field(pattern=r"\S")]] = Field(
        default_factory=dict, description="what a class's text says, by its name; others say their name in words"
    )
    template: str = Field(MARK, description="the sentence around the words, with {} in their place")
    keep: bool = Field(False, description="the rows stay beside the classes' texts")

    @field_validator("template")
    @classmethod
    def _marked(cls, template: str) -> str:
        if template.count(MARK) != 1:
            raise ValueError(f"the template has {template.count(MARK)} places for the words, not one {MARK}")
        return template

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        first: dict[str, Example] = {}
        several, count, labeled, file = False, 0, 0, ""
        for example in examples:
            count += 1
            file = file or example.origin.file
            several = several or isinstance(example.target, tuple)
            names = self._classes(example)
            labeled += bool(names)
            for name in names:
                first.setdefault(name, example)
            if self.keep:
                yield example
            else:
                context.ledger.drop(example, "the classes' texts stand in its place")
        self._check(first, labeled, count, file)
        context.facts.update(rows=count, labeled=labeled, classes=len(first) or len(self.texts))
        for name in sorted(first or self.texts):
            row = self._row(name, first.get(name), file, several=several)
            context.ledger.add(row, "the text of a class")
            yield row

    def _classes(self, example: Example) -> tuple[str, ...]:
        """The classes of a row. Errors: DataError where its target is none: a number, tags, answers."""
        target = example.target
        if target is None:
            return ()
        if isinstance(target, str):
            return (target,)
        if isinstance(target, tuple) and "text" in example.parts:
            return target
        what = f"tags or answers (it has {', '.join(example.parts)})" if isinstance(target, tuple) else f"{target:g}"
        raise DataError(
            f"the target of row '{example.id}' is no class but {what}",
            where=str(example.origin),
            expected="texts with one class or several",
            remedy="leave class_texts out, or name the columns: columns: {text: ..., label: ...}",
        )

    def _check(self, first: Mapping[str, Example], labeled: int, count: int, file: str) -> None:
        """Errors: DataError where `texts` and the labels of the rows do not go together, or there are neither."""
        if not labeled and not self.texts and count:
            raise DataError(
                f"none of {count} training rows has a class, and texts names none",
                where=file,
                expected="labeled rows, or the classes in class_texts",
                remedy="name the label's column with columns: {label: ...}, or set texts: {class: what it says}",
            )
        unknown = [name for name in self.texts if name not in first] if labeled else []
        if unknown:
            near = nearest(unknown[0], first)
            raise DataError(
                f"texts says something of the class '{shortened(unknown[0])}', which no training row has",
                where=file,
                expected=f"the {len(first)} classes of the rows",
                remedy=f"did you mean '{shortened(near)}'?" if near else "take it out, or add a row of this class",
            )

    def _row(self, name: str, found: Example | None, file: str, *, several: bool) -> Example:
        text = self.template.replace(MARK, self.texts.get(name, in_words(name)))
        place = found.origin if found is not None else Origin(file, 0)
        origin = Origin(place.file, place.row, (found.id,) if found is not None else (), ("class_texts",), True)
        return Example(f"class_texts:{name}", {"text": text}, origin, (name,) if several else name)
