"""The objective span: which tokens an answer is, windows that hold none, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import make_tokenizer

from luthier.core.component import build
from luthier.core.errors import DataError, ModelError
from luthier.core.example import Example, Origin
from luthier.data.encode import Encoding
from luthier.data.passages import answer_places, overlapping
from luthier.models.load import load_model

CONTEXT = "Once upon a time there was a small wolf who could not howl. The moon listened anyway, night after night."


def asked(answer: str | None, start: int = 0, context: str = CONTEXT, question: str = "Who?") -> Example:
    found = () if answer is None else (answer,)
    groups = {} if answer is None else {"answer_starts": str(start)}
    return Example("q", {"question": question, "context": context}, Origin("rows", 1, steps=("clean",)), found, groups)


def encoded(example: Example, max_length: int, **more: Any) -> tuple[list[Any], Encoding]:
    objective: Any = build("objectives", {"span": more})
    encoding = Encoding(make_tokenizer(), max_length=max_length)
    return objective.encode(example, encoding), encoding


@pytest.mark.parametrize("answer", ["small wolf", "Once", "night.", "could not howl. The moon"])
def test_the_ends_are_the_tokens_of_the_answer(answer: str) -> None:
    """In every window that holds it whole; in the others, the first token."""
    rows, encoding = encoded(asked(answer, CONTEXT.rindex(answer)), 20, stride=8)
    assert len(rows) > 2
    said = []
    for row in rows:
        first, last = row.fields["ends"]
        if (first, last) != (0, 0):
            said.append(encoding.tokenizer.decode(row.ids[first : last + 1]).strip())
    assert said
    assert set(said) == {answer}
    whole = encoded(asked(None), 20, stride=8)[0]
    assert [row.fields["ends"].tolist() for row in whole] == [[0, 0]] * len(rows)


def test_windows_overlap_and_end_with_the_passage() -> None:
    assert overlapping(10, 10, 4) == [(0, 10)]
    assert overlapping(11, 10, 4) == [(0, 10), (6, 11)]
    assert overlapping(16, 10, 4) == [(0, 10), (6, 16)]
    assert overlapping(17, 10, 4) == [(0, 10), (6, 16), (12, 17)]
    assert overlapping(3, 1, 0) == [(0, 1), (1, 2), (2, 3)]


def test_an_answer_is_found_again_where_a_step_moved_it() -> None:
    # It stands at 86 and at 98; two characters more before both move each by two.
    assert answer_places(asked("night", 98, "  " + CONTEXT)) == [(100, 105)]
    assert answer_places(asked("night", 86, "  " + CONTEXT)) == [(88, 93)]
    with pytest.raises(DataError) as caught:
        answer_places(asked("whale", 3))
    assert "after the steps clean" in str(caught.value)


def test_a_question_that_leaves_no_room_is_left_out_with_the_reason() -> None:
    rows, encoding = encoded(asked(None, question=CONTEXT), 40)
    assert rows == []
    assert "more than half of max_length" in encoding.log.dropped["q"]


def test_the_training_data_tells_whether_there_may_be_no_answer() -> None:
    objective: Any = build("objectives", "span")
    some, none = asked("wolf", 35), asked(None)
    assert objective.survey([some, some])["span"]["unanswerable"] is False
    assert objective.survey([some, none])["span"]["unanswerable"] is True
    with pytest.raises(DataError, match="not one question"):
        objective.survey([none])


def test_decoders_are_refused_and_heads_of_other_tasks_replaced(
    llama_folder: Path, bert_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="is a decoder"):
        load_model(str(llama_folder), "question_answering")
    loaded = load_model(str(bert_folder), "question_answering")
    assert loaded.fresh == {"qa_outputs.weight", "qa_outputs.bias"}
    assert loaded.model.config.id2label == {0: "start", 1: "end"}
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    assert load_model(str(tmp_path), "question_answering").fresh == frozenset()
