"""Answers to one prompt become one row: what they share once, each answer masked as in supervised training."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from tiny import CHATML_PLAIN, REASONING, make_tokenizer

from luthier.core.errors import DataError
from luthier.core.example import Example, Origin, Part, turns
from luthier.data.encode import Encoding
from luthier.functional.branches import unshared
from luthier.functional.packing import pack

PARTS: dict[str, Part] = {
    "prompt": turns(("system", "Be short."), ("user", "How long does a setup take?")),
    "chosen": turns(("assistant", "About two hours.")),
    "rejected": turns(("assistant", "About as long as a setup takes, and that is long.")),
}


def example(**parts: Part) -> Example:
    return Example("p", PARTS | parts, Origin("pairs.jsonl", 3), weight=2.0, groups={"shop": "a"})


def sequences(encoding: Encoding, one: Example, *names: str) -> list[list[int]]:
    (row,) = encoding.answers(one, names)
    plain, _ = unshared(pack([row]))
    cuts = plain.starts.tolist()
    return [plain.ids[low:high].tolist() for low, high in pairwise(cuts)]


@pytest.mark.parametrize("template", [None, CHATML_PLAIN], ids=["marked", "plain"])
def test_each_answer_is_the_conversation_that_supervised_training_would_see(template: str | None) -> None:
    tokenizer = make_tokenizer() if template is None else make_tokenizer(template)
    encoding = Encoding(tokenizer, max_length=256)
    (row,) = encoding.answers(example(), ("chosen", "rejected"))
    plain, _ = unshared(pack([row]))
    marks = np.split(plain.supervised.numpy(), plain.starts[1:-1].tolist())
    assert (row.id, row.weight, row.groups) == ("p", 2.0, {"shop": "a"})
    for name, ids, supervised in zip(
        ("chosen", "rejected"), sequences(encoding, example(), "chosen", "rejected"), marks, strict=True
    ):
        whole = Example("c", {"messages": (*PARTS["prompt"], *PARTS[name])}, Origin("c", 1))  # type: ignore[misc]
        (wanted,) = encoding.conversation(whole)
        end = int(np.flatnonzero(wanted.supervised)[-1]) + 1
        assert ids == wanted.ids[:end].tolist(), "and nothing after the stop token"
        assert supervised.tolist() == wanted.supervised[:end].tolist()
        assert supervised[-1]
    shared = len(row.ids) - sum(row.branches)
    assert shared == min(int(mark.argmax()) for mark in marks) - 1, "all of the prompt but its last token"


def test_answers_share_no_token_that_one_of_them_learns() -> None:
    """Both begin with "About": it is in each branch, though it is the same."""
    encoding = Encoding(make_tokenizer(), max_length=256)
    (row,) = encoding.answers(example(), ("chosen", "rejected"))
    shared = len(row.ids) - sum(row.branches)
    assert not row.supervised[: shared + 1].any()
    first = row.ids[shared : shared + 3].tolist()
    second = row.ids[shared + row.branches[0] :][:3].tolist()
    assert first == second


def test_what_is_too_long_loses_the_oldest_of_the_prompt_for_all_answers_alike() -> None:
    asked = turns(
        ("system", "Be short."),
        ("user", "Do you mend a violin? " * 8),
        ("assistant", "We do."),
        ("user", "How long does a setup take?"),
    )
    encoding = Encoding(make_tokenizer(), max_length=128)
    short, longer = sequences(encoding, example(prompt=asked), "chosen", "rejected")
    assert max(len(short), len(longer)) <= 128
    kept, also = sequences(encoding, example(), "chosen", "rejected")
    assert (short, longer) == (kept, also), "the oldest exchange is gone, the system turn and the question stay"
    assert "oldest 2 turns" in encoding.log.truncated["p"].cut
    small = Encoding(make_tokenizer(), max_length=24)
    assert small.answers(example(), ("chosen", "rejected")) == []
    assert "does not fit" in small.log.dropped["p"]
    with pytest.raises(DataError, match="max_length is 24"):
        Encoding(make_tokenizer(), max_length=24, overlong="error").answers(example(), ("chosen", "rejected"))


def test_a_template_that_rewrites_earlier_turns_sees_the_prompt_of_inference() -> None:
    encoding = Encoding(make_tokenizer(REASONING), max_length=256)
    asked = turns(("user", "a"), ("assistant", "<think>b</think>c"), ("user", "d"))
    (chosen,) = sequences(encoding, example(prompt=asked), "chosen")
    text = encoding.tokenizer.decode(chosen)
    assert "<think>" not in text
    assert text.endswith("About two hours.<|im_end|>")


def test_a_row_without_answers_is_refused_by_name() -> None:
    encoding = Encoding(make_tokenizer(), max_length=64)
    with pytest.raises(DataError, match="no turns in 'chosen'"):
        encoding.answers(Example("x", {"prompt": PARTS["prompt"]}, Origin("x.jsonl", 1)), ("chosen",))


def test_generation_asks_with_the_prompt() -> None:
    encoding = Encoding(make_tokenizer(), max_length=256)
    (chosen,) = sequences(encoding, example(), "chosen")
    prompt = encoding.prompt(example())
    assert chosen[: len(prompt)] == prompt
