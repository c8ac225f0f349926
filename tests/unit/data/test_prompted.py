"""A prompt to be read and its answer to be written as one row: what is learned, cut, left out and refused."""

from __future__ import annotations

import pytest
from tiny import make_tokenizer

from luthier.core.errors import DataError
from luthier.core.example import Example, Origin, Turn
from luthier.data.encode import Encoding, Overlong, encode_all
from luthier.objectives.seq2seq import Seq2Seq

TOKENIZER = make_tokenizer(template=None)
END = TOKENIZER.eos_token_id


def example(*said: tuple[str, str], **parts: str) -> Example:
    turns = tuple(Turn(role, content) for role, content in said)
    return Example("r", {"messages": turns, **parts}, Origin("shop.jsonl", 7))


ASKED = example(("user", "How long does a setup take?"), ("assistant", "Two hours."))


def encoding(max_length: int = 64, overlong: Overlong = "trim_prompt") -> Encoding:
    return Encoding(TOKENIZER, max_length=max_length, overlong=overlong)


def ids(text: str) -> list[int]:
    found: list[int] = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    return found


def test_the_answer_is_a_branch_of_the_prompt_and_learned_to_its_end() -> None:
    (row,) = encoding().answered(ASKED)
    prompt, answer = [*ids("How long does a setup take?"), END], [*ids("Two hours."), END]
    assert row.ids.tolist() == [*prompt, TOKENIZER.pad_token_id, *answer]
    assert row.branches == (1 + len(answer),)
    assert row.supervised.tolist() == [False] * (len(prompt) + 1) + [True] * len(answer)
    assert encoding().prompt_to_read(ASKED) == prompt


def test_a_system_turn_stands_before_the_prompt() -> None:
    said = example(("system", "Answer briefly."), ("user", "How long?"), ("assistant", "Two hours."))
    assert encoding().prompt_to_read(said) == [*ids("Answer briefly.\nHow long?"), END]


def test_each_side_has_the_limit_for_itself_and_the_prompt_loses_its_end() -> None:
    asked = example(("user", "translate: " + "the moon listened anyway, " * 9), ("assistant", "Two hours."))
    encoder = encoding(max_length=16)
    (row,) = encoder.answered(asked)
    assert len(row.ids) - row.branches[0] == 16
    assert row.ids[:15].tolist() == ids(asked.parts["messages"][0].content)[:15]  # type: ignore[union-attr]
    assert row.ids[15] == END
    assert encoder.log.truncated["r"].cut == "the end of the prompt"
    assert encoder.prompt_to_read(asked) == row.ids[:16].tolist()
    assert encoder.log.prompts["r"].after == 16
    assert encoding(max_length=16, overlong="drop").answered(asked) == []
    with pytest.raises(DataError, match="max_length is 16"):
        encoding(max_length=16, overlong="error").answered(asked)


def test_an_answer_is_never_cut() -> None:
    told = example(("user", "How long?"), ("assistant", "the moon listened anyway, " * 9))
    encoder = encoding(max_length=16)
    assert encoder.answered(told) == []
    assert encoder.log.dropped["r"] == "its answer does not fit into max_length, 16 tokens"


@pytest.mark.parametrize(
    ("unusable", "says"),
    [
        (example(("user", "Hello"), ("assistant", "Hello."), ("user", "How long?"), ("assistant", "Two.")), "3 turns"),
        (example(("user", "How long?"), ("assistant", "Two."), tools='[{"name": "clock"}]'), "has tools"),
    ],
)
def test_a_conversation_is_refused_with_its_place(unusable: Example, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        encode_all(Seq2Seq(), [ASKED, unusable], encoding())
    assert "shop.jsonl" in str(caught.value)
    assert "an encoder-decoder reads one prompt" in str(caught.value)


def test_what_has_nothing_to_learn_or_to_read_is_left_out() -> None:
    encoder = encoding()
    untrained = Example("u", {"messages": (Turn("user", "Hello"), Turn("assistant", "Hi", train=False))}, ASKED.origin)
    assert encoder.answered(untrained) == encoder.answered(example(("user", ""), ("assistant", "Two."))) == []
    assert encoder.log.untrained["u"] == "no turn of it is to be learned"
    assert encoder.log.dropped["r"] == "there is no prompt in it"
    assert encoder.prompt_to_read(example(("user", ""), ("assistant", "Two."))) == [END], "what is measured is asked"
