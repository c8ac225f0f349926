"""Texts that are rearranged in the middle of their answers go on with their own words."""

from __future__ import annotations

from tiny import make_llama

from luthier.models.generate import generate


def test_answers_are_those_of_each_prompt_alone_when_texts_have_left_and_room_has_run_out() -> None:
    """A text that ended leaves its place to the last one: at the next rearrangement the order is another."""
    model = make_llama(seed=1)
    prompts = [[5 + number, 7, 11][: 1 + number % 3] for number in range(9)]
    shared = {"stop": range(4, 10), "pad": 0, "max_new_tokens": 100, "temperature": 1.0}
    whole = generate(model, prompts, seeds=list(range(9)), **shared)
    assert len({len(answer) for answer in whole}) > 2
    assert max(map(len, whole)) > 80
    alone = [generate(model, [prompt], seeds=[seed], **shared)[0] for seed, prompt in enumerate(prompts)]
    assert whole == alone
