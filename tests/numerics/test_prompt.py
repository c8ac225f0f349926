"""Prompts: PEFT's own numbers, in packs and padding and caches alike, for texts that know nothing of them."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from numerics.test_adaptations import log_probabilities, train
from peft import PromptTuningConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, RobertaConfig, RobertaForSequenceClassification

from luthier.core.component import build
from luthier.core.contracts import Row
from luthier.core.errors import ModelError, RecipeError
from luthier.core.recipe import Recipe
from luthier.functional.packing import pack
from luthier.models import generate as generating
from luthier.models.cast import cast
from luthier.models.generate import generate
from luthier.models.roles import Role, role_of


def prompt(**parameters: object):
    return build("adaptations", {"prompt": parameters})


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=64)).eval()


def roberta():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = RobertaConfig(vocab_size=400, num_labels=3, max_position_embeddings=66, pad_token_id=1, **sizes)
    return RobertaForSequenceClassification(config).eval()


@pytest.fixture(params=["llama", "bert", "gpt2", "roberta"])
def base(request):
    torch.manual_seed(3)
    made = {"gpt2": gpt2, "roberta": roberta}.get(request.param)
    return made() if made else request.getfixturevalue(request.param)


def rows(count: int = 4) -> list[Row]:
    generator = torch.Generator().manual_seed(5)
    found = []
    for number in range(count):
        ids = torch.randint(3, 380, (5 + 3 * number,), generator=generator).numpy()
        marks = ids > 0
        marks[0] = False
        found.append(Row(f"row:{number}", ids, marks))
    return found


def answers(role: Role) -> torch.Tensor:
    """Log-probabilities of tokens or logits of classes."""
    batch = pack(rows())
    inner = role.model
    return role.logps(batch) if inner.get_output_embeddings() is not None else role.class_logits(batch)


def test_packed_is_padded_is_each_row_alone(base) -> None:
    """Of loss and of the prompt's gradient; and what each row alone gives is the embeddings put before it by hand."""
    torch.manual_seed(1)
    model = prompt(length=4).apply(base).eval()
    name = next(name for name, _ in model.named_parameters() if name.endswith("prompt.weight"))
    weight = dict(model.named_parameters())[name]
    role = role_of(model, 1)
    assert role.packed
    found = {}
    for way in (role, Role(model, 1, None)):
        values = answers(way)
        (slope,) = torch.autograd.grad(values.sin().sum(), weight)
        found[way.packed] = (values.detach(), slope)
    for packed, padded in zip(found[True], found[False], strict=True):
        torch.testing.assert_close(packed, padded, rtol=1e-4, atol=2e-6)

    backbone = model.base_model
    own = type(backbone).forward
    apart = []
    for row in rows():
        ids = torch.tensor(row.ids.tolist())[None]
        embeds = torch.cat([weight[None], backbone.get_input_embeddings()(ids)], dim=1)
        with torch.no_grad():
            states = own(backbone, inputs_embeds=embeds).last_hidden_state[:, 4:]
        apart.append(states[0])
    with torch.no_grad():
        torch.testing.assert_close(role.hidden(pack(rows())), torch.cat(apart), rtol=1e-4, atol=2e-6)


def test_it_is_pefts_prompt_tuning_on_a_decoder(llama) -> None:
    theirs = get_peft_model(copy.deepcopy(llama), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    model = prompt(length=4).apply(llama).eval()
    with torch.no_grad():
        model.model.prompt.weight.copy_(theirs.prompt_encoder["default"].embedding.weight)
    ids = torch.randint(3, 380, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    found = model(input_ids=ids, attention_mask=mask).logits
    wanted = theirs.eval()(input_ids=ids, attention_mask=mask).logits[:, 4:]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    (mine,) = torch.autograd.grad(found.sin().sum(), model.model.prompt.weight)
    (their,) = torch.autograd.grad(wanted.sin().sum(), theirs.prompt_encoder["default"].embedding.weight)
    torch.testing.assert_close(mine, their, rtol=1e-4, atol=1e-5)


def test_life_of_a_prompt(base, tmp_path: Path) -> None:
    adaptation, fresh, before = prompt(length=4), copy.deepcopy(base), log_probabilities(base)
    frozen = {name: p.detach().clone() for name, p in base.named_parameters()}
    model = adaptation.apply(base)
    assert set(frozen) < {name for name, _ in model.named_parameters()}, "the model's own names stay"
    train(adaptation, model, lr=1e-2)
    tuned = log_probabilities(model.eval())
    assert tuned.shape == before.shape
    assert not torch.equal(tuned, before)
    moving = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name not in moving)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if name.endswith("prompt.weight")).zero_()
    assert torch.equal(log_probabilities(copied), tuned), "a copy reads its own prompt"
    assert not torch.equal(log_probabilities(model), tuned)
    adaptation.save(copied, tmp_path)
    again = adaptation.apply(fresh).eval()
    adaptation.load(again, tmp_path)
    assert torch.equal(log_probabilities(again), tuned)
    with pytest.raises(ModelError, match="cannot be folded"):
        adaptation.merge(again)
    with pytest.raises(ModelError, match="already carries a prompt"):
        adaptation.apply(again)


def test_the_gradient_over_bfloat16_is_summed_in_float32(llama) -> None:
    exact = prompt(length=4).apply(copy.deepcopy(llama)).eval()
    half = prompt(length=4).apply(cast(llama, torch.bfloat16)).eval()
    slopes = []
    for model in (exact, half):
        with torch.no_grad():
            model.model.prompt.weight.copy_(torch.linspace(-0.1, 0.1, 128).view(4, 32).bfloat16())
        slopes.append(torch.autograd.grad(role_of(model, 0).logps(pack(rows(12))).sum(), model.model.prompt.weight)[0])
    assert slopes[1].dtype == torch.float32
    assert float((slopes[1] - slopes[0]).norm()) <= 0.03 * float(slopes[0].norm())


def test_generation_reads_the_prompt(llama) -> None:
    """Beside one token after the other by whole texts; rows of unequal length are padded on the left."""
    torch.manual_seed(7)
    model = prompt(length=4).apply(llama).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "v_proj" in name or "o_proj" in name:
                parameter.mul_(8.0)  # drawn so small, the model would say its last token again
    assert generating.decoding_offset(model, 0) is None
    prompts = [[5, 6, 7, 8], [9, 10], [11, 12, 13, 14, 15, 16]]
    wanted = []
    for start in prompts:
        text = list(start)
        for _ in range(8):
            with torch.no_grad():
                text.append(int(model(input_ids=torch.tensor([text])).logits[0, -1].argmax()))
        wanted.append(text[len(start) :])
    settings = {"stop": {399}, "pad": 0, "max_new_tokens": 8}
    assert generate(model, prompts, **settings) == wanted
    with torch.no_grad():
        model.model.prompt.weight.mul_(-1)
    assert generate(model, prompts, **settings) != wanted, "the prompt made a difference"


def test_a_text_that_leaves_no_room_for_the_prompt_is_refused() -> None:
    model = prompt(length=10).apply(gpt2())
    with pytest.raises(ModelError, match="exceed the model's 64 positions") as caught:
        model(input_ids=torch.arange(55)[None])
    assert "max_length: 54" in str(caught.value)
    model(input_ids=torch.arange(54)[None])
    with pytest.raises(ModelError, match="exceed the model's 64 positions"):
        role_of(model, 0).logps(pack([Row("long", torch.arange(1, 56).numpy(), torch.arange(55).numpy() > 0)]))


def test_a_phase_after_a_prompt_is_refused_before_loading() -> None:
    phases = [
        {"name": "one", "objective": "causal_lm", "adaptation": "prompt"},
        {"name": "two", "objective": "causal_lm"},
    ]
    with pytest.raises(RecipeError, match="whose prompt cannot be folded in"):
        Recipe.of({"name": "x", "model": "m", "data": {"train": "t.jsonl"}, "phases": phases})
