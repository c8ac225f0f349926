"""The flat script's masks and losses, against hand-worked text and transformers' own loss on a padded batch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CHATML_PLAIN, make_llama, make_tokenizer

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import flat_sft

ROWS: list[dict[str, Any]] = [
    {
        "messages": [
            {"role": "user", "content": "How long?"},
            {"role": "assistant", "content": "Two hours."},
            {"role": "user", "content": "And the price of the strings?"},
            {"role": "assistant", "content": "60 euros."},
        ]
    },
    {"messages": [{"role": "user", "content": "A violin?"}, {"role": "assistant", "content": "Yes, we do."}]},
    {"messages": [{"role": "user", "content": "The moon"}, {"role": "assistant", "content": "listened anyway."}]},
]


@pytest.mark.parametrize("marked", [True, False])
def test_answers_and_their_end_are_learned_and_nothing_else(marked: bool) -> None:
    tokenizer = make_tokenizer() if marked else make_tokenizer(CHATML_PLAIN)
    ids, learned = flat_sft.encode(tokenizer, ROWS[0]["messages"])
    assert tokenizer.decode(ids[learned]) == "Two hours.<|im_end|>60 euros.<|im_end|>"


def test_a_template_without_an_end_is_refused() -> None:
    tokenizer = make_tokenizer("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    with pytest.raises(ValueError, match="does not end an answer"):
        flat_sft.encode(tokenizer, ROWS[1]["messages"])


def padded_loss(model: Any, encoded: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """transformers' loss of the rows as one padded batch."""
    longest = max(len(ids) for ids, _ in encoded)
    ids = torch.zeros(len(encoded), longest, dtype=torch.long)
    seen, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (tokens, learned) in enumerate(encoded):
        ids[row, : len(tokens)], seen[row, : len(tokens)] = tokens, 1
        labels[row, : len(tokens)][learned] = tokens[learned]
    with torch.no_grad():
        return float(model(input_ids=ids, attention_mask=seen, labels=labels).loss)


def test_the_first_loss_is_that_of_a_padded_batch() -> None:
    tokenizer = make_tokenizer()
    expected = padded_loss(make_llama(), [flat_sft.encode(tokenizer, row["messages"]) for row in ROWS])
    losses = flat_sft.train(
        make_llama(), tokenizer, ROWS, steps=1, tokens_per_step=4096, lr=1e-3, rank=4, seed=1, order=[[0, 1, 2]]
    )
    assert losses[0] == pytest.approx(expected, abs=2e-6)


def test_the_second_loss_follows_one_step_of_the_padded_batch() -> None:
    tokenizer = make_tokenizer()
    settings: dict[str, Any] = {"tokens_per_step": 4096, "lr": 1e-2, "rank": 4, "seed": 1}
    model = flat_sft.adapt(make_llama(), 4, 1)
    losses = flat_sft.train(model, tokenizer, ROWS, steps=2, order=[[0, 1, 2]] * 2, **settings)
    # The second step's rate is 0 with two steps, so the weights are those after the first.
    encoded = [flat_sft.encode(tokenizer, row["messages"]) for row in ROWS]
    assert losses[1] == pytest.approx(padded_loss(model, encoded), abs=2e-6)
    assert losses[1] < losses[0] - 1e-3


def test_the_seeded_order_takes_whole_rows_once_an_epoch() -> None:
    lengths = [30, 50, 20, 70, 10, 120]
    order = flat_sft.seeded_order(lengths, 100, 3)
    taken: list[list[int]] = []
    while sum(map(len, taken)) < 6:
        taken.append(next(order))
    assert sorted(position for step in taken for position in step) == list(range(6))
    assert all(sum(lengths[position] for position in step) <= 100 or len(step) == 1 for step in taken)


def test_rows_that_cannot_be_read_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.jsonl"
    sound = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'
    file.write_text(f"{sound}\n{sound[:40]}\n{sound.replace('b', ' ')}\n[]\n{{}}\n")
    assert len(flat_sft.read(file)) == 1
    assert "4 of 5 rows" in capsys.readouterr().out
