"""Tagged tokens: tokens or words, and a tag for each in tags, ner_tags, pos_tags or labels.

The first of these keys that a record has holds the tags; files of CoNLL's kind are read into such records, a sentence
each. Spans that are marked by IOB1, BIOES or BILOU become BIO (B- opens each, I- goes on); other tags stay as they are.
Numbered tags are named by `names`, in their order; `kinds` names spans as other files do, so that several make one
mixture. Errors: ValueError for tokens that are empty, for another number of tags than of tokens, for numbers without
names. Source: Ramshaw and Marcus 1995; Tjong Kim Sang and Veenstra 1999.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, field_validator

from ...core.contracts import Format
from ..turns import named

__all__ = ["Tags"]

_TOKENS = ("tokens", "words")
_TAGS = ("tags", "ner_tags", "pos_tags", "labels")
_MARKED = re.compile(r"([BIESLU])-(.+)")
_BIO = {"B": "B", "S": "B", "U": "B", "I": "I", "E": "I", "L": "I"}
_SPACE = re.compile(r"[ \t\n\r]+")


class Tags(Format):
    """Reads a sentence's tokens, joined by spaces, and its tags."""

    example: ClassVar[Mapping[str, Any]] = {"names": ["O", "B-PER", "I-PER"]}
    sample: ClassVar[Mapping[str, Any]] = {
        "tokens": ["Ada", "Lovelace", "lived", "in", "London"],
        "tags": ["B-PER", "I-PER", "O", "O", "B-LOC"],
    }
    file_kind: ClassVar[str | None] = "conll"
    names: tuple[str, ...] = Field((), description="what the numbers of numbered tags stand for: 0 for the first")
    kinds: dict[str, str] = Field(
        default_factory=dict, description="a span's kind: what it is called here, or O: not marked; others stay"
    )

    @field_validator("kinds")
    @classmethod
    def _words(cls, kinds: dict[str, str]) -> dict[str, str]:
        for kind, other in kinds.items():
            if not re.fullmatch(r"\S+", other):
                raise ValueError(f"kinds calls {kind} '{other}', which is not one word")
        return kinds

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        tokens, tags = (record.get(_first(record, keys)) for keys in (_TOKENS, _TAGS))
        return (
            isinstance(tokens, (list, tuple))
            and isinstance(tags, (list, tuple))
            and bool(tokens)
            and bool(tags)
            and isinstance(tokens[0], str)
            and isinstance(tags[0], (str, int))
        )

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        key, tagged = _first(record, _TOKENS), _first(record, _TAGS)
        tokens = [_token(token, number) for number, token in enumerate(_listed(record, key), 1)]
        tags = [self._tag(tag, number, tagged) for number, tag in enumerate(_listed(record, tagged), 1)]
        if not tokens:
            raise ValueError(f"empty row: {key} holds no token")
        if len(tokens) != len(tags):
            raise ValueError(f"tags do not fit: {len(tags)} in {tagged} for {len(tokens)} tokens")
        return {"parts": {"tokens": " ".join(tokens)}, "target": tuple(self._renamed(tag) for tag in _bio(tags))}

    def _renamed(self, tag: str) -> str:
        """A tag in BIO with its kind by the other name. Renamed last: two kinds side by side stay two spans."""
        match = _MARKED.fullmatch(tag)
        kind = self.kinds.get(match[2], match[2]) if match else ""
        return tag if match is None else "O" if kind == "O" else f"{match[1]}-{kind}"

    def _tag(self, tag: Any, number: int, key: str) -> str:
        if isinstance(tag, str) and tag.strip():
            return tag.strip()
        if type(tag) is int and 0 <= tag < len(self.names):
            return self.names[tag]
        if type(tag) is int and not self.names:
            raise ValueError(f"numbered tags: say what those in {key} stand for, format: {{tags: {{names: [...]}}}}")
        raise ValueError(f"unknown tag: tag {number} in {key} is {named(tag)}")


def _first(record: Mapping[str, Any], keys: Sequence[str]) -> str:
    return next((key for key in keys if key in record), keys[0])


def _listed(record: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = record.get(key)
    if value is None:
        raise ValueError(f"missing {key}")
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"wrong type: {key} is {named(value)}, not a list")
    return value


def _token(value: Any, number: int) -> str:
    if not isinstance(value, str):
        raise ValueError(f"wrong type: token {number} is {named(value)}, not text")
    if not value.strip():
        raise ValueError(f"empty token: token {number} says nothing")
    # A space parts tokens; one inside a token ("1 1/2") must not.
    return _SPACE.sub("\u00a0", value.strip())


def _bio(tags: Sequence[str]) -> Iterator[str]:
    """The tags with every span opened by B-: an I- that goes on with nothing opens one."""
    before = ""
    for tag in tags:
        match = _MARKED.fullmatch(tag)
        if match:
            goes_on = _BIO[match[1]] == "I" and before in (f"B-{match[2]}", f"I-{match[2]}")
            tag = f"{'I' if goes_on else 'B'}-{match[2]}"
        yield tag
        before = tag
