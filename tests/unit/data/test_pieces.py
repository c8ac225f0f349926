"""Texts tokenized by pieces have the tokens of the whole; tokenizers that could differ are asked for whole texts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_tokenizer
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from luthier.data import pieces
from luthier.data.pieces import Pieces, cuts_at_words

GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
PLAIN = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
LLAMA, QWEN = (
    pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(expression), "isolated"), PLAIN])
    for expression in pieces._EXPRESSIONS
)
DIGITS = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2])
# Without cuts of its own a tokenizer may join words: " of the" becomes one token.
CORPUS = [
    "the end of the day of the king, it's 12 345 times. It's the end!\n\n  And  then\tsome café — of the day's"
] * 9
ATOMS = [
    "the",
    "king",
    "It",
    "'s",
    "'S",
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    ".",
    ",",
    "!?",
    "12",
    "345",
    "é",
    "café",
    "日本",
]
ATOMS += [" the", " of the", "\u00a0", "\u3000", "\u0301", "😀", "<|end|>", "_", "-", "'", "'ll", "’s", "\x00", "ǅ"]


def tokenizer(before: pre_tokenizers.PreTokenizer, normalizer: normalizers.Normalizer | None = None):
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = before, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    if normalizer is not None:
        made.normalizer = normalizer
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>")


KNOWN = {
    name: tokenizer(before) for name, before in {"gpt2": GPT2, "digits": DIGITS, "llama": LLAMA, "qwen": QWEN}.items()
}


def whole(made: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    return made(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]


@pytest.mark.parametrize("name", KNOWN)
@settings(max_examples=150, deadline=None)
@given(texts=st.lists(st.lists(st.sampled_from(ATOMS), max_size=30).map("".join), min_size=1, max_size=4))
def test_the_tokens_are_those_of_the_whole_text(name: str, texts: list[str]) -> None:
    made = KNOWN[name]
    assert cuts_at_words(made)
    assert Pieces(lambda some: whole(made, some))(texts) == whole(made, texts)


def test_what_is_known_is_not_asked_for_again_and_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    made, asked = KNOWN["gpt2"], []
    by_pieces = Pieces(lambda some: asked.append(some) or whole(made, some))
    by_pieces(["The king of the day", "the king", "x" * 40])
    by_pieces(["The day of the king", "x" * 40])
    assert asked == [["The", " king", " of", " the", " day", "the", "x" * 40], ["x" * 40]]
    monkeypatch.setattr(pieces, "_MOST", 2)
    by_pieces(["The king"])
    assert len(by_pieces._known) == 2


def test_other_tokenizers_are_left_alone() -> None:
    joined = tokenizer(PLAIN)
    assert Pieces(lambda some: whole(joined, some))(["end of the day"]) != whole(joined, ["end of the day"])
    prefixed = pre_tokenizers.ByteLevel(add_prefix_space=True)
    removed = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pieces._EXPRESSIONS[0]), "removed"), PLAIN])
    spaces = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\S+ \S+"), "isolated"), PLAIN])
    others = [joined, *(tokenizer(before) for before in (prefixed, removed, spaces, pre_tokenizers.Metaspace()))]
    assert [cuts_at_words(made) for made in [*others, tokenizer(GPT2, normalizers.NFC())]] == [False] * 6
    added = make_tokenizer()
    assert cuts_at_words(added)
    added.add_tokens([AddedToken("of the", special=False)])
    assert not cuts_at_words(added)
    dropped = make_tokenizer()
    dropped.backend_tokenizer.model.dropout = 0.1
    assert not cuts_at_words(dropped)
