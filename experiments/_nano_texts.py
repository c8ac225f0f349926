"""The texts that the embedded model is measured on and was trained from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from luthier.core.example import Example, Origin

from ._recipes import outside

__all__ = ["PLAIN", "TextSet", "held_out", "learned_texts", "plain_texts", "rows_of", "tale_passages", "text_sets"]

PLAIN = ("stories", "children", "books")
"""Files of plain text in the training folder."""


@dataclass(frozen=True)
class TextSet:
    """Documents that are measured together. clusters: names of what they were cut from, None: each stands alone."""

    name: str
    texts: Sequence[str]
    clusters: Sequence[str] | None = None

    @property
    def examples(self) -> list[Example]:
        """The documents as rows of data."""
        return [
            Example(f"{self.name}:{number}", {"text": text}, Origin(self.name, number))
            for number, text in enumerate(self.texts, 1)
        ]

    @property
    def bytes(self) -> list[int]:
        """UTF-8 bytes of each document."""
        return [len(text.encode()) for text in self.texts]

    def first(self, count: int, characters: int) -> TextSet:
        """A small part, for a quick look."""
        some = self.clusters[:count] if self.clusters is not None else None
        return TextSet(self.name, [text[:characters] for text in self.texts[:count]], some)


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def held_out(folder: Path, name: str) -> TextSet:
    """The test documents of one kind that tools/make_nano.py set aside."""
    return TextSet(name, [row["text"] for row in rows_of(folder / f"test/{name}.jsonl")])


def text_sets(folder: Path) -> list[TextSet]:
    """Held-out children's books, books and stories, then tales, web pages and encyclopedia articles of others."""
    tales = tale_passages(outside("tasks/fairytaleqa/test.jsonl"))
    web = [row["text"] for row in rows_of(outside("text/web-sample/c4_demo.jsonl"))]
    articles = outside("text/web-sample/wiki_demo.txt").read_text(encoding="utf-8").splitlines()
    return [
        *(held_out(folder, name) for name in ("children", "books", "stories")),
        TextSet("FairytaleQA tales", list(tales), list(tales.values())),
        TextSet("web pages", web),
        TextSet("encyclopedia", [article for article in articles if article.strip()]),
    ]


def tale_passages(path: Path) -> dict[str, str]:
    """FairytaleQA's passages, each with the tale it is from; those that hold another are left out.

    A question about several sections has them all as its passage: kept, they would count a third of the text twice.
    """
    tales = {row["context"].strip(): row["story"] for row in rows_of(path)}
    parts: dict[str, list[str]] = {}
    for passage, tale in tales.items():
        parts.setdefault(tale, []).append(passage)

    def holds_another(passage: str, tale: str) -> bool:
        return any(part in passage for part in parts[tale] if part != passage)

    return {passage: tale for passage, tale in tales.items() if not holds_another(passage, tale)}


def plain_texts(folder: Path, limit: int | None = None) -> list[str]:
    """The plain training documents, each once; at most `limit` of each file."""
    found = []
    for name in PLAIN:
        found += [row["text"] for row in islice(rows_of(folder / f"train/{name}.jsonl"), limit)]
    return found


def learned_texts(folder: Path, limit: int | None = None) -> Iterator[str]:
    """All text that the model learns to predict: documents, and answers of conversations; `limit` rows of each file."""
    for path in sorted((folder / "train").glob("*.jsonl")):
        for row in islice(rows_of(path), limit):
            if "text" in row:
                yield row["text"]
            else:
                yield from (turn["content"] for turn in row["messages"] if turn["role"] == "assistant")
