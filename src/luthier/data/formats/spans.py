"""Questions answered by passages: question, context, and answers with text and answer_start.

Flat rows, or the nested file of SQuAD: data, paragraphs and qas, in which every question is a row. `answers` holds two
lists, text and answer_start, or a list of such pairs; a question without an answer has none. A start is a character of
the context; where the answer stands elsewhere, the nearest such place counts. Errors: ValueError for an empty question
or context, for an answer that the context does not hold. Source: Rajpurkar et al. 2016 (arXiv:1606.05250) and 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from ...core.contracts import Format
from ..passages import nearest_place
from ..turns import named, text_of

__all__ = ["Spans"]

Answer = tuple[str, int]


class Spans(Format):
    """Reads question, context and answers; where each answer starts stands in the group answer_starts."""

    example: ClassVar[Mapping[str, Any]] = {}
    sample: ClassVar[Mapping[str, Any]] = {
        "question": "Who came?",
        "context": "Late at night Ann came, and then Bo.",
        "answers": {"text": ["Ann", "Bo"], "answer_start": [14, 33]},
    }

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        answers = record.get("answers")
        first = answers[0] if isinstance(answers, (list, tuple)) and answers else answers
        placed = isinstance(first, Mapping) and "text" in first and "answer_start" in first
        return "question" in record and "context" in record and (placed or "is_impossible" in record)

    def rows(self, document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
        articles = document.get("data")
        if not isinstance(articles, list) or not any(
            isinstance(item, Mapping) and "paragraphs" in item for item in articles
        ):
            return None
        return [row for article in articles for row in _questions(article)]

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        question, context = (text_of(record.get(name), name) for name in ("question", "context"))
        for name, text in (("question", question), ("context", context)):
            if not text.strip():
                raise ValueError(f"empty {name}: {name} says nothing")
        answers = dict.fromkeys(_placed(answer, context) for answer in _answers(record))
        found: dict[str, Any] = {"parts": {"question": question, "context": context}}
        found["target"] = tuple(text for text, _ in answers)
        if answers:
            found["groups"] = {"answer_starts": " ".join(str(start) for _, start in answers)}
        return found


def _questions(article: Any) -> Iterator[Mapping[str, Any]]:
    """The rows of an article; what is damaged comes as a row that says so when it is read."""
    title = {"title": article["title"]} if isinstance(article, Mapping) and "title" in article else {}
    for paragraph in _items(article, "paragraphs"):
        context = {"context": paragraph.get("context")} if isinstance(paragraph, Mapping) else {}
        for question in _items(paragraph, "qas"):
            yield {**title, **context, **(question if isinstance(question, Mapping) else {"question": question})}


def _items(value: Any, key: str) -> Sequence[Any]:
    found = value.get(key) if isinstance(value, Mapping) else None
    return found if isinstance(found, list) else (None,)


def _answers(record: Mapping[str, Any]) -> list[Answer]:
    value = record.get("answers")
    if value is None and record.get("is_impossible"):
        return []
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
        if not isinstance(texts, (list, tuple)) or not isinstance(starts, (list, tuple)) or len(texts) != len(starts):
            raise ValueError("wrong type: answers has no lists text and answer_start of one length")
        return [_answer(text, start, number) for number, (text, start) in enumerate(zip(texts, starts, strict=True), 1)]
    if not isinstance(value, (list, tuple)):
        raise ValueError("missing answers" if value is None else f"wrong type: answers is {named(value)}, not a list")
    pairs = [item if isinstance(item, Mapping) else {} for item in value]
    return [_answer(pair.get("text"), pair.get("answer_start"), number) for number, pair in enumerate(pairs, 1)]


def _answer(text: Any, start: Any, number: int) -> Answer:
    said = text_of(text, f"text of answer {number}")
    if not said.strip():
        raise ValueError(f"empty answer: answer {number} says nothing")
    if type(start) is not int:
        raise ValueError(f"wrong type: answer {number} starts at {named(start)}, not at a whole number")
    return said, start


def _placed(answer: Answer, context: str) -> Answer:
    text, start = answer
    place = nearest_place(context, text, start)
    if place is None:
        raise ValueError("answer not in the context: what answers says does not stand there")
    return text, place
