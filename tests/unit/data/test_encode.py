"""Encoding: what is learned, what is cut, what is left out, and that all of it is written down."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
from tiny import CHATML_MARKED, CHATML_PLAIN, REASONING, make_tokenizer

from luthier.core.contracts import Objective, Row
from luthier.core.errors import DataError, ModelError
from luthier.core.example import Example, Origin, Turn, turns
from luthier.data import encode
from luthier.data.encode import Encoding, encode_all
from luthier.data.parts import wanted_of
from luthier.data.spelled import spelled
from luthier.objectives.causal_lm import CausalLM

LONG = "Once upon a time there was a small wolf who could not howl. " * 8


def talk(*pairs, id="r", **rest) -> Example:
    return Example(id, {"messages": turns(*pairs), **rest.pop("parts", {})}, Origin("shop.jsonl", 7), **rest)


def text(content: str, id="t", **rest) -> Example:
    return Example(id, {"text": content}, Origin("tales.txt", 1), **rest)


def encoding(template=CHATML_MARKED, max_length=512, **rest) -> Encoding:
    return Encoding(make_tokenizer(template), max_length=max_length, **rest)


def said(row: Row, e: Encoding) -> str:
    return e.tokenizer.decode(row.ids[row.supervised])


class Talks(Objective):
    needs: ClassVar = frozenset({"messages"})
    task: ClassVar = "causal_lm"

    def encode(self, example, encoder):
        return encoder.conversation(example)


# ---- conversations ---------------------------------------------------------------------------------------------------


def test_a_conversation_is_one_row_with_its_answers_learned():
    e = encoding()
    (row,) = e.conversation(
        talk(("user", "How long?"), ("assistant", "Two hours."), weight=2.0, repeat=3.0, groups={"domain": "shop"})
    )
    assert row.ids.dtype == np.int64
    assert row.supervised.dtype == np.bool_
    assert said(row, e) == "Two hours.<|im_end|>"
    assert (row.id, row.weight, row.repeat, row.groups) == ("r", 2.0, 3.0, {"domain": "shop"})
    assert e.log.counts() == {"truncated": 0, "dropped": 0, "untrained": 0, "prompts": 0}


def test_turns_after_the_last_learned_one_are_left_out():
    e = encoding()
    (row,) = e.conversation(talk(("user", "How long?"), ("assistant", "Two hours."), ("user", "Thanks, " + LONG)))
    assert e.tokenizer.decode(row.ids).rstrip().endswith("Two hours.<|im_end|>")


def test_left_truncation_that_cuts_an_earlier_answer_keeps_the_last_ones_mask():
    pairs = [
        ("system", "Be brief."),
        ("user", LONG),
        ("assistant", "First."),
        ("user", "And now?"),
        ("assistant", "Last."),
    ]
    e = encoding(max_length=60)
    (row,) = e.conversation(talk(*pairs))
    kept = e.tokenizer.decode(row.ids)
    assert kept == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nAnd now?<|im_end|>\n"
        "<|im_start|>assistant\nLast.<|im_end|>\n"
    )
    assert said(row, e) == "Last.<|im_end|>"
    cut = e.log.truncated["r"]
    assert cut.after == len(row.ids) <= 60 < cut.before
    assert cut.cut == "the oldest 2 turns"


@pytest.mark.parametrize("template", [CHATML_MARKED, CHATML_PLAIN])
def test_the_start_of_a_single_prompt_goes_and_the_answer_stays_whole(template: str):
    e = encoding(template, max_length=80)
    whole = talk(("system", "Be brief."), ("user", LONG + "Who could not howl?"), ("assistant", "A small wolf."))
    (row,) = e.conversation(whole)
    kept = e.tokenizer.decode(row.ids)
    assert kept.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    assert kept.endswith("Who could not howl?<|im_end|>\n<|im_start|>assistant\nA small wolf.<|im_end|>\n")
    assert said(row, e) == "A small wolf.<|im_end|>"
    assert 76 <= len(row.ids) <= 80  # no more is cut than must be; a word's pieces may merge anew at the cut
    assert "characters of what the user says" in e.log.truncated["r"].cut


def test_an_answer_that_does_not_fit_is_dropped_with_the_reason():
    e = encoding(max_length=40)
    assert e.conversation(talk(("user", "Tell."), ("assistant", LONG))) == []
    assert e.log.dropped == {"r": "its answer does not fit into max_length, 40 tokens"}
    assert e.log.truncated == {}


def test_overlong_drop_and_error():
    row = talk(("user", LONG), ("assistant", "Yes."))
    e = encoding(max_length=40, overlong="drop")
    assert e.conversation(row) == []
    assert "max_length is 40" in e.log.dropped["r"]
    many = [talk(("user", LONG), ("assistant", "Yes."), id=f"r{n}") for n in range(7)]
    with pytest.raises(DataError) as error:
        encode_all(Talks(), many, encoding(max_length=40, overlong="error"))
    assert "7 of 7 rows cannot be encoded; the first 5" in str(error.value)
    assert "shop.jsonl:7: row 'r0' has" in str(error.value)
    assert len(error.value.problems) == 6


def test_a_row_without_anything_to_learn_is_left_out_and_listed():
    e = encoding()
    silent = Example("s", {"messages": (Turn("user", "Hm?"), Turn("assistant", "No.", train=False))}, Origin("a", 1))
    assert e.conversation(silent) == []
    assert list(e.log.untrained) == ["s"]


def test_encoding_twice_counts_once():
    e = encoding(max_length=40)
    for _ in range(2):
        e.conversation(talk(("user", "Tell."), ("assistant", LONG)))
    assert e.log.counts()["dropped"] == 1


def test_reasoning_templates_give_a_row_for_each_answer():
    e = encoding(REASONING)
    rows = e.conversation(
        talk(
            ("user", "1?"), ("assistant", "<think>a</think>Yes."), ("user", "2?"), ("assistant", "<think>b</think>No.")
        )
    )
    assert [row.id for row in rows] == ["r#1", "r#2"]
    assert [said(row, e) for row in rows] == ["<think>a</think>Yes.<|im_end|>", "<think>b</think>No.<|im_end|>"]
    assert "<think>a" not in e.tokenizer.decode(rows[1].ids)


def test_no_row_left_says_why():
    picky = "{{ raise_exception('only poems') }}"
    with pytest.raises(DataError, match=r"none of 2 rows can be learned from: the chat .* only poems .2 rows"):
        encode_all(Talks(), [talk(("user", "a"), ("assistant", "b"), id=i) for i in "xy"], encoding(picky))


def test_rows_that_are_tokenized_together_are_those_of_each_alone(monkeypatch: pytest.MonkeyPatch):
    examples = [
        text("Der Wolf <|im_end|> frißt. " * (number % 5 + 1), id=str(number), weight=number) for number in range(40)
    ]
    examples += [text("a", id="a"), talk(("user", "Hi"), ("assistant", "Ho"), id="b"), text("", id="c")]
    one_by_one = [row for example in examples for row in CausalLM().encode(example, encoding(max_length=64))]
    calls = []
    inner = Encoding._tokenized
    monkeypatch.setattr(Encoding, "_tokenized", lambda self, texts: calls.append(texts) or inner(self, texts))
    for together in (2**17, 100, 1):
        monkeypatch.setattr(encode, "_TOGETHER", together)
        calls.clear()
        rows = encode_all(CausalLM(), examples, e := encoding(max_length=64))
        assert [repr(row) for row in rows] == [repr(row) for row in one_by_one]
        assert len(rows) > len(examples)
        assert list(e.log.untrained) == ["c"]
        assert (len(calls) == 1) == (together == 2**17)  # the tokenizer is called once, as long as all fits together


def test_without_a_template_conversations_are_refused_and_documents_are_not():
    e = encoding(None)
    with pytest.raises(ModelError, match="no chat template"):
        e.conversation(talk(("user", "a"), ("assistant", "b")))
    assert len(e.document(text("A violin."))) == 1
    assert encoding(None, chat_template="plain").conversation(talk(("user", "a"), ("assistant", "b")))


def test_tools_of_a_row_are_json():
    e = encoding("{% if tools %}{{ tools | tojson }}{% endif %}" + CHATML_PLAIN)
    pairs = (("user", "a"), ("assistant", "b"))
    (row,) = e.conversation(talk(*pairs, parts={"tools": '[{"name": "quote"}]'}))
    assert e.tokenizer.decode(row.ids).startswith('[{"name": "quote"}]<|im_start|>')
    with pytest.raises(DataError, match="no JSON"):
        e.conversation(talk(*pairs, parts={"tools": "[quote"}))


# ---- documents and labeled texts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_length", [2, 7, 16, 512])
def test_windows_make_every_token_after_the_first_a_target_once(max_length: int):
    e = encoding(max_length=max_length)
    content = "The luthier keeps the plates thin and the varnish thinner. " * 3
    rows = e.document(text(content))
    whole = [*e.tokenizer(content)["input_ids"], e.tokenizer.eos_token_id]
    targets = [token for row in rows for token in row.ids[row.supervised].tolist()]
    assert targets == whole[1:]
    assert rows[0].ids[0] == whole[0]
    assert all(2 <= len(row.ids) <= max_length and not row.supervised[0] for row in rows)
    for before, after in pairwise(rows):
        assert before.ids[-1] == after.ids[0]
    assert [row.id for row in rows] == (["t"] if len(rows) == 1 else [f"t#{n}" for n in range(1, len(rows) + 1)])


def test_a_document_begins_as_the_tokenizer_begins_it():
    from tokenizers.processors import TemplateProcessing

    e = encoding()
    e.tokenizer.bos_token = "<|endoftext|>"
    e.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", e.tokenizer.bos_token_id)]
    )
    (row,) = e.document(text("A violin."))
    assert row.ids.tolist() == [*e.tokenizer("A violin.")["input_ids"], e.tokenizer.eos_token_id]
    assert row.ids[0] == e.tokenizer.bos_token_id


def test_an_end_token_that_a_document_spells_is_no_end_token():
    e = encoding()
    (row,) = e.document(text("a <|im_end|> b"))
    assert (row.ids == e.tokenizer.eos_token_id).tolist() == [False] * (len(row.ids) - 1) + [True]


def test_an_empty_document_is_listed():
    e = encoding()
    assert e.document(text("")) == []
    assert list(e.log.untrained) == ["t"]


def bert_like() -> Encoding:
    from tokenizers.processors import TemplateProcessing

    e = encoding(None, max_length=12)
    e.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", 1), ("<|im_end|>", 2)]
    )
    return e


def test_a_labeled_text_has_the_tokenizers_special_tokens_and_nothing_learned():
    e = bert_like()
    (row,) = e.sequence(text("A violin."), label=np.array(3))
    assert row.ids.tolist() == e.tokenizer("A violin.")["input_ids"]
    assert not row.supervised.any()
    assert row.fields["label"] == 3


def test_a_long_labeled_text_is_cut_as_transformers_cuts_it_and_listed():
    e = bert_like()
    (row,) = e.sequence(text(LONG))
    assert row.ids.tolist() == e.tokenizer(LONG, truncation=True, max_length=12)["input_ids"]
    assert e.log.truncated["t"].after == 12
    assert e.log.truncated["t"].cut == "the end of the text"


def test_a_missing_part_is_named():
    with pytest.raises(DataError, match=r"has no text .it has messages"):
        encoding().document(talk(("user", "a"), ("assistant", "b")))
    with pytest.raises(DataError, match=r"has no conversation .it has text"):
        encoding().conversation(text("a"))


# ---- generation ------------------------------------------------------------------------------------------------------


def test_the_prompt_is_the_rows_own_beginning():
    e = encoding()
    example = talk(("system", "Be brief."), ("user", "1?"), ("assistant", "Yes."), ("user", "2?"), ("assistant", "No."))
    (row,) = e.conversation(example)
    prompt = e.prompt(example)
    assert row.ids[: len(prompt)].tolist() == prompt
    assert e.tokenizer.decode(row.ids[len(prompt) :]) == "No.<|im_end|>\n"
    assert wanted_of(example) == ("No.",)


def test_a_conversation_without_answer_is_a_prompt_as_it_is():
    e = encoding()
    assert e.tokenizer.decode(e.prompt(talk(("user", "1?")))).endswith("1?<|im_end|>\n<|im_start|>assistant\n")


def test_a_long_prompt_leaves_room_for_the_answer():
    e = encoding(max_length=80)
    prompt = e.prompt(talk(("system", "Be brief."), ("user", LONG + "Who?"), ("assistant", "A wolf.")), reserve=20)
    shown = e.tokenizer.decode(prompt)
    assert 56 <= len(prompt) <= 60
    assert shown.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n")
    assert shown.endswith("Who?<|im_end|>\n<|im_start|>assistant\n")
    assert e.log.counts() == {"truncated": 0, "dropped": 0, "untrained": 0, "prompts": 1}


def test_wanted_prefers_the_target():
    pairs = (("user", "a"), ("assistant", "b"))
    assert wanted_of(talk(*pairs, target=("b", "B."))) == ("b", "B.")
    assert wanted_of(text("a", target="refund")) == ("refund",)
    assert wanted_of(text("a", target=0.5)) == ()


# ---- showing ---------------------------------------------------------------------------------------------------------


def test_show_colors_what_is_learned_and_spells_special_tokens():
    e = encoding()
    rows = e.conversation(talk(("user", "Prix?"), ("assistant", "60 € – voilà.")))
    shown = spelled(rows, e.tokenizer)
    assert shown.plain.startswith(f"r: {len(rows[0].ids)} tokens, {int(rows[0].supervised.sum())} learned\n")
    assert e.tokenizer.decode(rows[0].ids) in shown.plain
    styled = {shown.plain[span.start : span.end]: str(span.style) for span in shown.spans}
    assert styled["60 € – voilà."] == "green"  # characters of several tokens are decoded together
    assert styled["<|im_end|>"] == "green bold underline"
    assert styled["user\nPrix?"] == "dim"
    assert styled["<|im_start|>"] == "dim bold underline"
