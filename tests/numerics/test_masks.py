"""Masks of conversations: those of transformers, masks worked out by hand, and a pad token that is the end token."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CHATML_MARKED, CHATML_PLAIN, make_tokenizer

from luthier.core.example import Example, Origin, Turn, turns
from luthier.data.encode import Encoding
from luthier.data.template import ChatTemplate, plain_template, template_for

TOKENIZERS = {name: make_tokenizer(source) for name, source in (("marked", CHATML_MARKED), ("plain", CHATML_PLAIN))}
TEMPLATES = {name: ChatTemplate(tokenizer) for name, tokenizer in TOKENIZERS.items()}

# No control token is likely among these, and every kind of character is: accents, emoji, line breaks, spaces at ends.
CONTENT = st.text(alphabet=st.sampled_from("ab Zé\n\t 界🎻<|>_'."), max_size=24)
TALKS = st.lists(st.tuples(CONTENT, CONTENT), min_size=1, max_size=3).map(
    lambda pairs: [Turn(role, said) for pair in pairs for role, said in zip(("user", "assistant"), pair, strict=True)]
)


@pytest.mark.parametrize("name", ["marked", "plain"])
@given(talk=TALKS)
@settings(max_examples=80, deadline=None)
def test_ids_and_mask_are_those_of_transformers(name: str, talk: list[Turn]):
    expected = TOKENIZERS["marked"].apply_chat_template(
        [turn.message() for turn in talk], return_dict=True, return_assistant_tokens_mask=True
    )
    ids, supervised = TEMPLATES[name].encode(TEMPLATES[name].render(talk))
    assert ids.tolist() == expected["input_ids"]
    assert supervised.astype(int).tolist() == expected["assistant_masks"]


@given(talk=TALKS)
@settings(max_examples=60, deadline=None)
def test_every_learned_turn_ends_in_a_learned_stop_token_and_its_prompt_begins_the_row(talk: list[Turn]):
    template = TEMPLATES["plain"]
    ids, supervised = template.encode(template.render(talk))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], supervised.astype(int), [0]])))
    begins, ends = edges[::2], edges[1::2]
    assert len(ends) == len(talk) // 2
    assert (ids[ends - 1] == template.tokenizer.eos_token_id).all()
    for turn, begin in zip(range(1, len(talk), 2), begins, strict=True):
        assert template.prompt(talk[:turn]) == ids[:begin].tolist()


def worked_out(text: str, supervised: str) -> tuple[list[int], list[bool]]:
    """The hand-worked reference: `text` in pieces between bars, a plus sign under each learned piece."""
    tokenizer = TOKENIZERS["marked"]
    pieces = text.split("¦")
    assert len(pieces) == len(supervised)
    return [tokenizer.convert_tokens_to_ids(piece) for piece in pieces], [sign == "+" for sign in supervised]


@pytest.mark.parametrize("name", ["marked", "plain"])
def test_a_mask_worked_out_by_hand(name: str):
    expected_ids, expected_mask = worked_out(
        "<|im_start|>¦u¦s¦er¦Ċ¦X¦<|im_end|>¦Ċ¦<|im_start|>¦as¦s¦ist¦a¦n¦t¦Ċ¦Y¦Z¦<|im_end|>¦Ċ", "----------------+++-"
    )
    ids, supervised = TEMPLATES[name].encode(TEMPLATES[name].render(turns(("user", "X"), ("assistant", "YZ"))))
    assert TOKENIZERS[name].convert_ids_to_tokens(ids) == TOKENIZERS[name].convert_ids_to_tokens(expected_ids)
    assert supervised.tolist() == expected_mask


@pytest.mark.parametrize("source", [CHATML_MARKED, CHATML_PLAIN, plain_template()])
def test_a_pad_token_that_is_the_end_token_changes_no_mask(source: str):
    example = Example("r", {"messages": turns(("user", "How long?"), ("assistant", "Two hours."))}, Origin("a", 1))
    usual, shared = make_tokenizer(source), make_tokenizer(source)
    shared.pad_token = shared.eos_token
    (expected,) = Encoding(usual, max_length=64).conversation(example)
    (row,) = Encoding(shared, max_length=64).conversation(example)
    assert row.ids.tolist() == expected.ids.tolist()
    assert row.supervised.tolist() == expected.supervised.tolist()
    assert (row.ids[row.supervised] == shared.pad_token_id).sum() == 1


@given(talk=TALKS, limit=st.integers(4, 60))
@settings(max_examples=80, deadline=None)
def test_a_truncated_row_ends_in_its_whole_last_answer_or_is_dropped(talk: list[Turn], limit: int):
    tokenizer = TOKENIZERS["marked"]
    encoding = Encoding(tokenizer, max_length=limit)
    rows = encoding.conversation(Example("r", {"messages": tuple(talk)}, Origin("a", 1)))
    if not rows:
        assert "does not fit" in encoding.log.dropped["r"]
        return
    (row,) = rows
    assert len(row.ids) <= limit
    last = tokenizer.decode(row.ids[row.supervised]).split("<|im_end|>")[-2:]
    assert last == [talk[-1].content, ""]
    whole = len(TEMPLATES["marked"].encode(TEMPLATES["marked"].render(talk))[0])
    assert ("r" in encoding.log.truncated) == (whole > limit)


INSTRUCT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
"""A template in the manner of the first Llama and Mistral chat models: no header for the answer."""


@pytest.mark.parametrize("scheme", ["first", "always"])
@pytest.mark.parametrize("source", [INSTRUCT, None])
def test_word_start_tokenizers_learn_whole_answers_after_their_inference_prompts(scheme: str, source: str | None):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    pieces = Tokenizer(models.BPE(unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    pieces.train_from_iterator(["the moon is a wolf [INST] User: Assistant: </s>\n the moon a wolf"] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=source
    )
    template = template_for(tokenizer, None if source else "plain")
    talk = turns(("user", "a </s> wolf"), ("assistant", "the moon"), ("user", "the moon"), ("assistant", "a wolf"))
    ids, supervised = template.encode(template.render(talk))
    assert tokenizer.convert_ids_to_tokens(ids[supervised]) == ["▁the", "▁moon", "</s>", "▁a", "▁wolf", "</s>"]
    assert (ids == tokenizer.eos_token_id).sum() == 2
    for turn in (1, 3):
        prompt = template.prompt(talk[:turn])
        assert prompt == ids[: len(prompt)].tolist()
        assert supervised[len(prompt)]
