"""A model under measurement against plain transformers, one sequence at a time, without packing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from luthier.core.errors import DataError
from luthier.core.example import Example, Origin, Turn
from luthier.core.recipe import Decoding
from luthier.data.encode import Encoding
from luthier.evaluate.subject import ModelSubject, item_seed
from luthier.models.roles import role_of
from luthier.objectives.causal_lm import CausalLM
from luthier.objectives.classify import Classify


def chat(number: int, question: str, answer: str) -> Example:
    turns = (Turn("user", question), Turn("assistant", answer))
    return Example(f"c:{number}", {"messages": turns}, Origin("c.jsonl", number))


CHATS = [
    chat(1, "How long does a setup take?", "About two hours."),
    chat(2, "Wolf?", "The moon listened anyway, night after night, and the wolf could not howl."),
    chat(3, "A violin remembers the hands that made it, and what of the varnish?", "Thin."),
]
TEXT = Example("d:1", {"text": "The luthier keeps the plates thin. " * 12}, Origin("d.txt", 1))


def subject(model, tokenizer, *, max_length: int = 64, micro: int = 40, **decoding) -> ModelSubject:
    encoding = Encoding(tokenizer, max_length=max_length)
    settings = Decoding(**({"max_new_tokens": 8} | decoding))
    return ModelSubject("tuned", role_of(model, 0), encoding, CausalLM(), settings, 1, micro)


def by_hand(model, one: ModelSubject, example: Example) -> np.ndarray:
    """Supervised tokens' log-probabilities from the stock forward of each row."""
    found = []
    for row in CausalLM().encode(example, one.encoding):
        with torch.no_grad():
            logps = model(torch.tensor(row.ids)[None]).logits[0].double().log_softmax(-1)
        at = np.flatnonzero(row.supervised)
        found.append(logps[at - 1, row.ids[at]].numpy())
    return np.concatenate(found)


def test_token_logps_equal_plain_transformers_in_the_examples_order(llama, tokenizer):
    examples = [*CHATS, TEXT]
    one = subject(llama, tokenizer)
    assert len(one.objective.encode(TEXT, one.encoding)) > 1  # windows of one text come back as one
    tokens = one.token_logps(examples)
    for example, mine in zip(examples, tokens, strict=True):
        np.testing.assert_allclose(mine, by_hand(llama, one, example), atol=2e-6)
    sums, counts = one.logps(examples)
    assert counts.tolist() == [len(values) for values in tokens]
    np.testing.assert_allclose(sums, [values.sum() for values in tokens], rtol=1e-12)


def test_batching_changes_nothing(llama, tokenizer):
    alone, together = subject(llama, tokenizer, micro=1), subject(llama, tokenizer, micro=10_000)
    np.testing.assert_allclose(alone.logps(CHATS)[0], together.logps(CHATS)[0], atol=1e-5)


def test_an_example_without_anything_to_learn_counts_nothing(llama, tokenizer):
    silent = Example("s", {"messages": (Turn("user", "Hm?"), Turn("assistant", "Hm.", train=False))}, Origin("s", 1))
    sums, counts = subject(llama, tokenizer).logps([silent, CHATS[0]])
    assert (sums[0], counts[0]) == (0.0, 0)
    assert counts[1] > 0


def test_modes_come_back_as_they_were(llama, tokenizer):
    llama.train()
    llama.model.layers[0].eval()
    before = [module.training for module in llama.modules()]
    one = subject(llama, tokenizer)
    one.logps(CHATS)
    one.generate(CHATS)
    assert [module.training for module in llama.modules()] == before
    assert all(parameter.requires_grad for parameter in llama.parameters())


def test_greedy_answers_equal_transformers_generate(llama, tokenizer):
    one = subject(llama, tokenizer)
    for example, answer in zip(CHATS, one.generate(CHATS), strict=True):
        prompt = torch.tensor([one.encoding.prompt(example)])
        stops = list(one.encoding.stop)
        full = llama.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=8,
            do_sample=False,
            eos_token_id=stops,
            pad_token_id=0,
        )
        assert answer == tokenizer.decode(full[0, prompt.shape[1] :], skip_special_tokens=True)


def test_an_items_draws_do_not_depend_on_the_other_items(llama, tokenizer):
    one = subject(llama, tokenizer, temperature=1.0)
    together = one.generate(CHATS)
    assert one.generate(CHATS[::-1]) == together[::-1]
    assert one.generate(CHATS[1:2]) == together[1:2]
    assert item_seed(1, "a") != item_seed(2, "a")
    assert 0 <= item_seed(1, "a") < 2**63


@pytest.mark.parametrize("several", [False, True])
def test_classes_equal_plain_transformers(bert, tokenizer, several):
    facts = {"classes": ["a", "b", "c"], "multi_label": several, "class_weights": dict.fromkeys("abc", 1.0)}
    encoding = Encoding(tokenizer, max_length=64, facts=facts)
    one = ModelSubject("tuned", role_of(bert, 0), encoding, Classify(), Decoding(), 1, 30)
    targets = [("a",), ("b", "c"), ("c",)] if several else ["a", "b", "c"]
    texts = ["A violin.", "The moon listened anyway, night after night.", "How long does a setup take?"]
    examples = [
        Example(f"x{i}", {"text": text}, Origin("x.csv", i), target=target)
        for i, (text, target) in enumerate(zip(texts, targets, strict=True))
    ]
    logps = one.classify(examples)
    for row, example in enumerate(examples):
        ids = Classify().encode(example, encoding)[0].ids
        with torch.no_grad():
            logits = bert(torch.tensor(ids)[None]).logits[0].double()
        expected = logits.sigmoid().log() if several else logits.log_softmax(-1)
        np.testing.assert_allclose(logps[row], expected.numpy(), atol=2e-6)


def test_an_item_that_cannot_be_classified_is_named(bert, tokenizer):
    facts = {"classes": ["a", "b", "c"], "multi_label": False, "class_weights": dict.fromkeys("abc", 1.0)}
    one = ModelSubject(
        "tuned", role_of(bert, 0), Encoding(tokenizer, max_length=64, facts=facts), Classify(), Decoding(), 1
    )
    examples = [Example("x0", {"text": ""}, Origin("x.csv", 1), target="a")]
    with pytest.raises(DataError, match="the first is 'x0'"):
        one.classify(examples)


def test_about_says_what_numbers_depend_on(llama, tokenizer):
    assert subject(llama, tokenizer).about == "float32 on cpu, packed to 40 tokens; greedy, at most 8 new tokens"
    warm = subject(llama.bfloat16(), tokenizer, temperature=0.7)
    assert warm.about == "bfloat16 on cpu, packed to 40 tokens; temperature 0.7, top_p 1, at most 8 new tokens"
