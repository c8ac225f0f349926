"""What a tagger or a question-answering model says of a text: the spans that it marks, as plain values for JSON."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import LuthierError, first_line
from .talk import config_of, model_of

if TYPE_CHECKING:
    from ..core.contracts import Task
    from ..evaluate.subject import ModelSubject

__all__ = ["answer_in", "marked", "passage_of"]

_WORD = re.compile(r"\w+(?:[^\w\s]+\w+)*|[^\w\s]")
"""A word, with the punctuation inside it, or one other sign: near to how tagged sentences are cut."""
_LENGTH = 384
"""Tokens of a window; transformers' own number for questions."""
_READING = {"stride": 128, "longest": 30, "unanswerable": False}
"""How answers are read where a model's folder does not say; transformers' own numbers."""


def marked(folder: Path, text: str) -> list[dict[str, Any]]:
    """The spans of a text: kind, text, characters from start to end; where tags mark no spans, each word's tag."""
    from ..core.example import Example, Origin
    from ..functional.tagging import Scheme, best_path, kinds_of, spans_of

    words = list(_WORD.finditer(text))
    names = config_of(folder)["id2label"]
    labels = [str(names[key]) for key in sorted(names, key=int)]
    kinds = kinds_of(labels)
    scheme: Scheme = "bioes" if any(label.startswith(("E-", "S-")) for label in labels) else "bio"
    plain = "O" if kinds is not None else labels[0]
    parts = {"tokens": " ".join(word[0] for word in words)}
    example = Example("text", parts, Origin("text", 1), (plain,) * len(words))
    facts = {"kinds": kinds, "scheme": scheme, "classes": labels}
    (logps,) = _subject(folder, "token_classification", "tag", facts).tag([example])
    if kinds is None:
        found = [(labels[number], at, at + 1) for at, number in enumerate(logps.argmax(axis=1))]
    else:
        # Where a kind has no tag to open with (IOB1 of a set without neighbors of one kind), I- opens it.
        opened = all({f"B-{kind}", f"S-{kind}"} & set(labels) for kind in kinds)
        path = best_path(logps, labels, scheme) if opened else list(logps.argmax(axis=1))
        found = spans_of([labels[number] for number in path])
    places = [(kind, words[first].start(), words[last - 1].end()) for kind, first, last in found]
    return [{"kind": kind, "text": text[begin:end], "start": begin, "end": end} for kind, begin, end in places]


def passage_of(given: str) -> str:
    """The passage that was named: that of standard input (-), of a file, or the text itself. Errors: LuthierError."""
    try:
        named = Path(given).is_file()
    except OSError:  # a passage is too long for a file's name
        named = False
    try:
        text = sys.stdin.read() if given == "-" else Path(given).read_text(encoding="utf-8") if named else given
    except (OSError, UnicodeDecodeError) as error:
        raise LuthierError(
            f"the passage cannot be read: {first_line(error)}", where=given, expected="text in UTF-8"
        ) from error
    if not text.strip():
        raise LuthierError("the passage is empty", where=given, expected="the text that holds the answer")
    return text


def answer_in(folder: Path, question: str, context: str) -> dict[str, Any]:
    """The part of the context that answers the question, and the characters from start to end; answer None where the
    model was taught that there may be none, and finds none.
    """
    from ..core.example import Example, Origin
    from ..functional.spans import best_answer

    reading = {**_READING, **(config_of(folder).get("span") or {})}
    example = Example("question", {"question": question, "context": context}, Origin("question", 1), ())
    (windows,) = _subject(folder, "question_answering", "span", {"span": reading}).extract([example])
    best = best_answer(windows, int(reading["longest"]))
    if best is None or (reading["unanswerable"] and best.margin < 0):
        return {"answer": None}
    found = context[best.begin : best.end]
    begin = best.begin + len(found) - len(found.lstrip())
    return {"answer": found.strip(), "start": begin, "end": begin + len(found.strip())}


def _subject(folder: Path, task: Task, objective: str, facts: Mapping[str, Any]) -> ModelSubject:
    """The run's model as something that can be asked."""
    from ..core.component import build
    from ..core.contracts import Objective
    from ..core.recipe import Decoding
    from ..data.encode import Encoding
    from ..evaluate.subject import ModelSubject
    from ..models.load import load_model
    from ..models.prompt import text_room
    from ..models.roles import role_of

    place = model_of(folder)
    loaded = load_model(str(place), task)
    if loaded.fresh:
        raise LuthierError(f"the model lacks {', '.join(sorted(loaded.fresh))}", where=str(place))
    limit = text_room(loaded.model) or _LENGTH
    asked = build("objectives", objective)
    assert isinstance(asked, Objective)
    role = role_of(loaded.model, loaded.tokenizer.pad_token_id)
    encoding = Encoding(loaded.tokenizer, max_length=min(_LENGTH, limit), facts=facts)
    return ModelSubject("tuned", role, encoding, asked, Decoding(), seed=1)
