"""Frequencies that turn with the length of a text: each text keeps those of its own, whatever it is computed with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from numerics.test_roles import rows, unpacked_logps, widen

from luthier.core.contracts import Row
from luthier.functional.packing import pack
from luthier.models.attention import position_offset
from luthier.models.generate import generate
from luthier.models.roles import role_of

PAD, EDGE = 1, 16
SIZE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
TURNING = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [1.5, *[6.0] * 7]}
LENGTHS = (9, 30, 4, 17, 16, 40)


def phi3(head: str = "CausalLM", **changes: Any) -> Any:
    torch.manual_seed(0)
    settings = {"original_max_position_embeddings": EDGE, "rope_parameters": dict(TURNING)} | changes
    return widen(getattr(hf, f"Phi3For{head}")(hf.Phi3Config(**SIZE, **settings, num_labels=3))).eval()


def dynamic() -> Any:
    torch.manual_seed(0)
    rule = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    return widen(hf.LlamaForCausalLM(hf.LlamaConfig(**SIZE, rope_parameters=rule))).eval()


def test_such_models_are_not_packed() -> None:
    assert position_offset(phi3(), PAD) is None
    assert position_offset(dynamic(), PAD) is None
    assert position_offset(phi3(rope_parameters=None), PAD) == 0


def test_a_long_text_changes_a_short_one_in_transformers_own_batch() -> None:
    """What the rest is about; should this fail, models of this kind may be packed."""
    model, ids = phi3(), torch.arange(5, 45)[None].expand(2, 40)
    mask = torch.ones(2, 40, dtype=torch.long)
    mask[0, 9:] = 0
    with torch.no_grad():
        together, alone = (
            model(input_ids=ids, attention_mask=mask).logits[0, :9],
            model(input_ids=ids[:1, :9]).logits[0],
        )
    assert float((together - alone).abs().max()) > 1e-2


def test_each_text_of_a_batch_has_its_own_frequencies() -> None:
    model, items = phi3(), rows(lengths=LENGTHS)
    role, wanted = role_of(model, PAD), torch.cat([unpacked_logps(phi3(), row) for row in items])
    found = role.logps(pack(items))
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)
    weights = torch.randn(len(wanted), generator=torch.Generator().manual_seed(4))
    parameters = list(model.parameters())
    ours = torch.autograd.grad((found * weights).sum(), parameters)
    again = torch.cat([unpacked_logps(model, row) for row in items])
    for gradient, expected in zip(ours, torch.autograd.grad((again * weights).sum(), parameters), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-4)


def test_hidden_states_and_classes_too() -> None:
    items = rows(lengths=LENGTHS)
    every = [torch.from_numpy(np.where(row.ids == PAD, 5, row.ids))[None] for row in items]
    batch = pack([Row(row.id, ids[0].numpy(), row.supervised) for row, ids in zip(items, every, strict=True)])
    model, classifier = phi3(), phi3("SequenceClassification")
    with torch.no_grad():
        hidden = torch.cat([model.model(input_ids=ids).last_hidden_state[0] for ids in every])
        classes = torch.cat([classifier(input_ids=ids).logits for ids in every])
        torch.testing.assert_close(role_of(model, PAD).hidden(batch), hidden, rtol=0, atol=2e-5)
        torch.testing.assert_close(role_of(classifier, PAD).class_logits(batch), classes, rtol=0, atol=2e-5)


@pytest.mark.parametrize("budget", [60, 4096])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_text_that_grows_beyond_the_limit_is_read_anew(budget: int, temperature: float) -> None:
    """As if every step read the whole text again, which is what transformers' own generation does at the limit."""
    model = phi3()
    prompts = [[*range(5, 5 + length)] for length in (14, 3, 30, 16, 17, 11)]
    together = generate(
        model, prompts, stop={2}, pad=PAD, max_new_tokens=12, temperature=temperature, batch_tokens=budget
    )
    for number, prompt in enumerate(prompts):
        alone = generate(
            model, [prompt], stop={2}, pad=PAD, max_new_tokens=12, temperature=temperature, seeds=[number]
        )[0]
        assert together[number] == alone, number
        if temperature == 0.0:
            assert alone == greedy(model, prompt, 12), number


def greedy(model: Any, prompt: list[int], count: int) -> list[int]:
    text = list(prompt)
    while len(text) < len(prompt) + count:
        with torch.no_grad():
            token = int(model(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1].argmax())
        if token == 2:
            break
        text.append(token)
    return text[len(prompt) :]
