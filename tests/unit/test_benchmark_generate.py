"""The generation benchmark gives both sides the same work, and notices when they do not do it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny import make_llama
from transformers import GenerationConfig

from benchmarks import _turns, generate
from benchmarks.generate import LONGEST, Way, fastest, make_prompts, ours, peer, refuse_unlike


@pytest.mark.parametrize("way", [Way(2, "sdpa"), Way(8, "eager")])
def test_both_sides_give_the_same_texts(way: Way) -> None:
    mine, theirs = (make_llama(initializer_range=0.6, tie_word_embeddings=False) for _ in range(2))
    theirs.generation_config = GenerationConfig(pad_token_id=0, eos_token_id=None, do_sample=False)
    prompts = [prompt[:20] for prompt in make_prompts(5, 400)]
    sides = ours(mine, prompts, 6), peer(theirs, prompts, 6, way)
    assert sides[0] == sides[1]
    refuse_unlike(sides, 6)


def test_sides_that_disagree_or_stop_early_are_refused() -> None:
    with pytest.raises(SystemExit, match="3 tokens"):
        refuse_unlike(([[1, 2, 3]], [[1, 2]]), 3)
    with pytest.raises(SystemExit, match="disagree"):
        refuse_unlike(([[1], [2], [3]], [[1], [5], [6]]), 1)


def test_prompts_have_mixed_lengths_and_fit() -> None:
    prompts = make_prompts(64, 4096)
    lengths = [len(prompt) for prompt in prompts]
    assert max(lengths) == LONGEST
    assert min(lengths) < 60
    assert torch.tensor([token for prompt in prompts for token in prompt]).unique().numel() > 1000
    assert all(10 <= token < 4096 for prompt in prompts for token in prompt)


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (Way(64, "sdpa"), [16, 32, 64, 64]),
        (Way(64, "eager"), [16, 32, 64, 64]),
        (Way(16, "sdpa"), [16, 32, 8, 16]),
    ],
)
def test_the_peers_batch_is_searched_up_to_all_prompts_at_once(
    monkeypatch: pytest.MonkeyPatch, best: Way, tried: list[int]
) -> None:
    clock: list[float] = [0.0]
    seen: list[Way] = []

    def work(model: Any, prompts: Any, tokens: int, way: Way) -> None:
        seen.append(way)
        clock[0] += 10 + abs(way.batch - best.batch) + (way.attention != best.attention)

    monkeypatch.setattr(generate, "peer", work)
    monkeypatch.setattr(_turns.time, "process_time", lambda: clock[0])
    assert fastest(None, [[1]] * 64, 4) == best
    assert [way.batch for way in seen] == tried
    assert [way.attention for way in seen] == ["sdpa"] * 3 + ["eager"]


def test_seconds_are_the_processors_and_the_clocks_where_no_side_was_kept_waiting() -> None:
    def times(cpu: float, wall: float) -> dict[str, float]:
        return {"cpu": cpu, "wall": wall}

    pairs = [(times(2, 1), times(8, 5)), (times(2, 1), times(4, 2)), (times(4, 2), times(20, 14))]
    processor, clock = generate.rows_of("x", "for y", pairs, 1)
    assert (processor.ours, processor.other, processor.value, processor.low, processor.high) == (2, 8, 4.0, 2.0, 5.0)
    assert (clock.ours, clock.other, clock.value, clock.low, clock.high) == (1, 5, 5.0, 2.0, 7.0)
    assert (
        [row.name for row in generate.rows_of("x", "for y", pairs, 4)]
        == [processor.name]
        == ["x: processor seconds for y"]
    )
