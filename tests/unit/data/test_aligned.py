"""Where tokens end in a text, and where two tokenizers agree about it, held against TRL's own alignment."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
from tiny import CORPUS, make_tokenizer

from luthier.core.contracts import Row
from luthier.data.aligned import span_marks, spelled_ends
from luthier.functional.aligned import FIRST, OUTSIDE

TEXT = "The moon listened; the luthier — Zoë — said “ah 🎻”, and it cost 60 €."


def sentencepiece_like() -> Any:
    """Pieces of words with a mark for the space before them, as Llama 2's; the first is decoded without its space."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="</s>")


def row_of(ids: list[int], *runs: tuple[int, int]) -> Row:
    marks = np.zeros(len(ids), dtype=np.bool_)
    for begin, end in runs:
        marks[begin:end] = True
    return Row("r", np.array(ids), marks)


def test_each_token_ends_where_its_text_does(tokenizer) -> None:
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    text, ends = spelled_ends(ids, tokenizer)
    assert text == TEXT
    known = [end for end in ends if end is not None]
    assert known == sorted(known)
    assert known[-1] == len(TEXT)
    assert ends.count(None) >= 3, "the violin is four bytes, each a token"
    for at, end in enumerate(ends):
        if end is not None:
            assert tokenizer.decode(ids[: at + 1]) == TEXT[:end]


def test_the_beginning_of_a_text_is_spelled_as_the_tokenizer_decodes_it() -> None:
    tokenizer = sentencepiece_like()
    ids = tokenizer("The moon and a violin", add_special_tokens=False)["input_ids"]
    text, ends = spelled_ends([*ids, tokenizer.eos_token_id], tokenizer)
    assert text[:-1] == "The moon and a violin"
    assert ends[-2:] == [len(text) - 1, len(text)]
    assert all(end is not None for end in ends)


def test_two_tokenizers_agree_where_trl_says_they_do(tokenizer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gold = pytest.importorskip("trl.experimental.gold.gold_trainer")
    for other, text in itertools.product((make_tokenizer(size=330), sentencepiece_like()), CORPUS):
        given = [one(text, add_special_tokens=False, return_offsets_mapping=True) for one in (tokenizer, other)]
        sides = [row_of([0, *one["input_ids"]], (1, 1 + len(one["input_ids"]))) for one in given]
        marks = span_marks(sides[0], tokenizer, sides[1], other)
        groups = gold.ULDLoss._align_by_byte_offsets(*(one["offset_mapping"] for one in given))
        assert [len(one["input_ids"]) for one in given] == [len(found) for found in marks]
        assert len(groups[0]) < max(map(len, marks)), "they cut the text differently"
        for side, found in zip(groups, marks, strict=True):
            assert np.flatnonzero(found == FIRST).tolist() == [group[0] for group in side]
            assert not (found == OUTSIDE).any()


def test_answers_end_alike_whatever_their_last_token_is_called_and_runs_stay_apart(tokenizer) -> None:
    other = sentencepiece_like()
    first, second = "The moon listened.", "A violin"
    stop = tokenizer.eos_token_id
    said = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (first, second)]
    told = [other(text, add_special_tokens=False)["input_ids"] for text in (first, second)]
    # Between the two answers one template puts more than the other.
    ours = [5, *said[0], stop, 6, 7, *said[1], stop]
    theirs = [9, *told[0], other.eos_token_id, 9, *told[1], other.eos_token_id]
    runs = [(1, 2 + len(said[0])), (4 + len(said[0]), len(ours))]
    other_runs = [(1, 2 + len(told[0])), (3 + len(told[0]), len(theirs))]
    marks = span_marks(row_of(ours, *runs), tokenizer, row_of(theirs, *other_runs), other)
    lengths = [end - begin for begin, end in runs]
    assert len(marks[0]) == sum(lengths)
    assert len(marks[1]) == sum(end - begin for begin, end in other_runs)
    assert (marks[0] == FIRST).sum() == (marks[1] == FIRST).sum() > 4
    ends = np.cumsum([0, *lengths])
    for begin, end in itertools.pairwise(ends.tolist()):
        assert marks[0][begin] == FIRST, "each answer begins a span"
        assert marks[0][end - 1] == FIRST, "what ends it is a span of its own"
    alone = span_marks(row_of(ours, *runs), tokenizer, row_of(theirs, other_runs[0]), other)
    assert not alone[0].any(), "another number of answers: nothing is compared"
    assert not alone[1].any()


def test_what_only_one_of_them_says_lies_in_no_span(tokenizer) -> None:
    whole = tokenizer("The moon listened anyway", add_special_tokens=False)["input_ids"]
    other = tokenizer("The moon slept", add_special_tokens=False)["input_ids"]
    marks = span_marks(
        row_of([0, *whole], (1, 1 + len(whole))), tokenizer, row_of([0, *other], (1, 1 + len(other))), tokenizer
    )
    assert marks[0][0] == marks[1][0] == FIRST
    assert marks[0][-1] == marks[1][-1] == OUTSIDE


@pytest.mark.parametrize("begins", [(True, False), (False, True), (False, False)], ids=["ours", "theirs", "neither"])
def test_texts_are_aligned_whether_or_not_a_token_of_their_own_begins_them(
    tokenizer, begins: tuple[bool, bool]
) -> None:
    """What nothing precedes is told by neither: the first span begins where both tokenizers end a token behind it."""
    other = sentencepiece_like()
    text = "The moon listened anyway, night after night."
    rows, first = [], []
    for one, has in zip((tokenizer, other), begins, strict=True):
        ids = [*([0] if has else []), *one(text, add_special_tokens=False)["input_ids"], one.eos_token_id]
        rows.append(row_of(ids, (1, len(ids))))
        first.append(0 if has else spelled_ends(ids[:1], one)[1][0])
    marks = span_marks(rows[0], tokenizer, rows[1], other)
    spelled = []
    for row, one, found in zip(rows, (tokenizer, other), marks, strict=True):
        assert len(found) == row.supervised.sum()
        assert (found != OUTSIDE).mean() > 0.8
        inside = row.ids[1:][found != OUTSIDE].tolist()
        spelled.append(spelled_ends(inside, one)[0][:-1])
    assert (marks[0] == FIRST).sum() == (marks[1] == FIRST).sum() > 4
    assert spelled[0].strip() == spelled[1].strip()
    assert text.endswith(spelled[0])
    assert len(text) - len(spelled[0].lstrip()) >= max(first)
