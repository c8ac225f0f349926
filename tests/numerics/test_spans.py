"""Extractive question answering: transformers' own loss, gradients and windows, and answers worked out by hand."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_tokenizer
from transformers import (
    AutoModelForQuestionAnswering,
    BertConfig,
    BertForQuestionAnswering,
    DistilBertConfig,
    ModernBertConfig,
    RobertaConfig,
)

from luthier.core.component import build
from luthier.core.contracts import Row
from luthier.core.example import Example, Origin
from luthier.data.encode import Encoding, encode_all
from luthier.data.passages import passages
from luthier.engine.step import accumulate
from luthier.functional.packing import pack
from luthier.functional.spans import best_answer, span_losses
from luthier.models.roles import Models, role_of

SIZES: dict[str, Any] = {"vocab_size": 400, "max_position_embeddings": 128, "pad_token_id": 0}
USUAL: dict[str, Any] = SIZES | {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
KINDS: dict[str, Any] = {
    "bert": BertConfig(**USUAL),
    "roberta": RobertaConfig(**USUAL, type_vocab_size=1),
    "distilbert": DistilBertConfig(**SIZES, dim=32, hidden_dim=64, n_layers=2, n_heads=4),
    "modernbert": ModernBertConfig(**USUAL, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2),
}
CONTEXT = (
    "The luthier keeps the plates thin and the varnish thinner. A violin remembers the hands that made it, and the "
    "varnish remembers the summer. Once upon a time there was a small wolf who could not howl."
)


def tokenizer_of_pairs() -> Any:
    """The tiny tokenizer with BERT's marks around pairs, and segments."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tokenizer()
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|im_end|>",
        pair="<|im_start|> $A <|im_end|> $B:1 <|im_end|>:1",
        special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<|im_start|>", "<|im_end|>")],
    )
    return tokenizer


def asked() -> list[Example]:
    answers = ("luthier", "the hands that made it", "howl")
    found = []
    for number, answer in enumerate(answers):
        parts = {"question": f"What is {number}?", "context": CONTEXT}
        groups = {"answer_starts": str(CONTEXT.index(answer))}
        found.append(Example(f"q:{number}", parts, Origin("q", number), (answer,), groups, weight=1.0 + number))
    return [*found, Example("q:none", {"question": "Who?", "context": CONTEXT[:40]}, Origin("q", 9), ())]


def rows_of(max_length: int, **more: Any) -> list[Row]:
    objective: Any = build("objectives", {"span": more})
    encoding = Encoding(tokenizer_of_pairs(), max_length=max_length, facts=objective.survey(asked()))
    return encode_all(objective, asked(), encoding)


def taken(model: Any) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_span_is_transformers_own_loss(kind: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForQuestionAnswering.from_config(KINDS[kind]).eval()
    rows = rows_of(40, stride=8)
    assert len(rows) > 8
    assert any(row.fields["ends"].any() for row in rows)
    total, count = torch.zeros(()), 0.0
    for row in rows:
        ends = torch.from_numpy(row.fields["ends"])
        segments = {"token_type_ids": torch.from_numpy(row.types)[None]} if kind == "bert" else {}
        given = {"input_ids": torch.from_numpy(row.ids)[None], **segments}
        loss = model(**given, start_positions=ends[:1], end_positions=ends[1:]).loss
        total, count = total + row.weight * loss, count + row.weight
    mean = total / count
    mean.backward()
    wanted = taken(model)

    role = role_of(model, 0)
    assert role.packed
    objective: Any = build("objectives", "span")
    step = accumulate(objective, (), Models(role), [pack(rows[:3]), pack(rows[3:])])
    assert step.loss == pytest.approx(mean.item(), rel=2e-6)
    found = taken(model)
    assert found.keys() == wanted.keys()
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=4e-6 * largest, msg=name)


def test_a_padded_model_is_given_the_segments_too() -> None:
    torch.manual_seed(0)
    model = BertForQuestionAnswering(KINDS["bert"]).eval()
    role, batch = role_of(model, 0), pack(rows_of(40, stride=8)[:4])
    with torch.no_grad():
        packed = role.span_logits(batch)
        role.offset = None
        torch.testing.assert_close(role.span_logits(batch), packed, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("max_length", "stride"), [(40, 8), (40, 0), (64, 128), (128, 16)])
def test_windows_are_those_of_transformers(max_length: int, stride: int) -> None:
    tokenizer = tokenizer_of_pairs()
    example = asked()[1]
    found = passages(example, Encoding(tokenizer, max_length=max_length), stride)
    question, context = example.parts["question"], example.parts["context"]
    room = max_length - int((found[0].characters[:, 0] < 0).sum())
    wanted = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=max_length,
        stride=min(stride, room // 2),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    assert [one.row.ids.tolist() for one in found] == wanted["input_ids"]
    assert [one.row.types.tolist() for one in found if one.row.types is not None] == wanted["token_type_ids"]
    for number, one in enumerate(found):
        second = [sequence == 1 for sequence in wanted.sequence_ids(number)]
        assert (one.characters[:, 0] >= 0).tolist() == second
        offsets = np.array(wanted["offset_mapping"][number])
        assert one.characters[second].tolist() == offsets[second].tolist()


def test_the_loss_by_hand() -> None:
    """Two sequences of 2 and 3 tokens, in float64: log 2 and log 3 where all logits are equal, and one that is not."""
    logits = torch.zeros(5, 2, dtype=torch.float64)
    logits[4, 1] = 1.0
    starts, positions = torch.tensor([0, 2, 5]), torch.tensor([0, 1, 0, 1, 2])
    losses = span_losses(logits, starts, positions, torch.tensor([[0, 1], [1, 2]]))
    by_hand = [math.log(2), (math.log(3) + math.log(2 + math.e) - 1) / 2]
    np.testing.assert_allclose(losses.numpy(), by_hand, rtol=1e-15)


def window(starts: list[float], ends: list[float], first: int = 0) -> Any:
    """A token of the question, then one passage token for every two characters."""
    places = np.arange(len(starts) - 1) * 2 + first
    characters = np.concatenate([[[-1, -1]], np.stack([places, places + 2], axis=1)])
    return np.concatenate([np.array([starts, ends]).T, characters], axis=1)


def test_the_best_answer_by_hand() -> None:
    # The likeliest ends, 4 before 1, make no answer, and 8 is no part of the passage; tokens 1 to 3 (3 + 2) are it.
    one = window([8.0, 3.0, 0.0, 0.0, 4.0], [-7.25, 5.0 - 9, 0.0, 2.0, 0.5])
    assert best_answer([one], 30) == (0, 6, 5.0 - 0.75)
    assert best_answer([one], 2) == (6, 8, 4.5 - 0.75)
    other = window([-2.0, 0.0, 9.0], [-1.0, 0.0, 0.0], first=8)
    assert best_answer([one, other], 30) == (10, 12, 9.0 + 3.0)
    assert best_answer([], 30) is None


@pytest.mark.parametrize("seed", range(4))
def test_the_best_answer_is_that_of_all_pairs(seed: int) -> None:
    draw = np.random.default_rng(seed)
    windows = [window(list(draw.normal(size=9)), list(draw.normal(size=9)), first) for first in (0, 10)]
    best = max(
        (float(one[i, 0] + one[j, 1]), int(one[i, 2]), int(one[j, 3]))
        for one in windows
        for i, j in product(range(1, 9), repeat=2)
        if i <= j < i + 4
    )
    none = min(float(one[0, :2].sum()) for one in windows)
    assert best_answer(windows, 4) == (best[1], best[2], pytest.approx(best[0] - none))
