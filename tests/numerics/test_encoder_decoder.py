"""Encoder-decoders behind a role, against transformers: log-probabilities, losses, gradients of a step, answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import make_t5, make_tokenizer
from transformers import BartConfig, BartForConditionalGeneration
from transformers.trainer_pt_utils import LabelSmoother

from luthier.core.component import build
from luthier.core.contracts import Adaptation, Objective, Row
from luthier.engine.step import accumulate
from luthier.functional import alike
from luthier.functional.packing import pack
from luthier.models import encoder_decoder
from luthier.models.generate import generate
from luthier.models.load import load_model
from luthier.models.quantized import QuantizedLinear
from luthier.models.recompute import recompute
from luthier.models.roles import Models, Role, role_of

V = 400
PAD = 0
SIZES = {"layers": 2, "ffn_dim": 64, "attention_heads": 4}


def bart(**changes: Any) -> Any:
    """A BART, whose positions are learned and whose answers begin with the end token."""
    torch.manual_seed(0)
    sides = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in SIZES.items()}
    config = BartConfig(vocab_size=V, d_model=32, max_position_embeddings=64, dropout=0.0, **sides, **changes)
    config.pad_token_id = PAD
    return BartForConditionalGeneration(config).eval()


def biased() -> Any:
    """A BART that adds a number to each logit after its output layer, as Marian's do."""
    model = bart()
    model.final_logits_bias.copy_(torch.linspace(-2, 2, V))
    return model


MODELS: dict[str, Callable[[], Any]] = {
    "T5, tied": make_t5,
    "T5, untied and gated": lambda: make_t5(tie_word_embeddings=False, feed_forward_proj="gated-gelu"),
    "BART": bart,
    "BART with a bias on logits": biased,
}
each_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def row(name: str, prompt: int, *answers: int, seed: int) -> Row:
    """Random tokens: a prompt, and answers of so many tokens, each behind a token that stands for the start."""
    draw = np.random.default_rng(seed)
    ids, marks = [draw.integers(4, V, prompt)], [np.zeros(prompt, dtype=np.bool_)]
    for length in answers:
        ids += [np.array([7]), draw.integers(4, V, length)]
        marks += [np.zeros(1, dtype=np.bool_), np.ones(length, dtype=np.bool_)]
    return Row(name, np.concatenate(ids), np.concatenate(marks), branches=tuple(1 + length for length in answers))


ROWS = [row(str(n), *sizes, seed=n) for n, sizes in enumerate([(5, 3), (17, 4), (3, 1), (40, 30), (9, 7), (12, 2)])]
SEVERAL = [row("a", 6, 3, 5, 1, seed=11), row("b", 11, 2, seed=12), row("c", 4, 4, 4, seed=13)]


def sides(one: Row) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The prompt and each answer of a row, [1, L] both."""
    ids = torch.from_numpy(one.ids)
    prompt = len(ids) - sum(one.branches)
    parts = ids[prompt:].split(list(one.branches))
    return [(ids[None, :prompt], part[None, 1:]) for part in parts]


def told(model: Any, rows: list[Row]) -> torch.Tensor:
    """[N] log-probabilities by transformers' own forward pass, an answer at a time."""
    found = []
    for prompt, answer in (pair for one in rows for pair in sides(one)):
        logits = model(input_ids=prompt, labels=answer).logits[0].log_softmax(-1)
        found.append(logits.gather(-1, answer[0][:, None])[:, 0])
    return torch.cat(found)


@each_model
@pytest.mark.parametrize("rows", [ROWS, SEVERAL], ids=["one answer", "several answers"])
def test_log_probabilities_are_those_of_transformers(make: Callable[[], Any], rows: list[Row]) -> None:
    model = make()
    role = role_of(model, PAD)
    wanted = told(model, rows)
    torch.testing.assert_close(role.logps(pack(rows)), wanted, rtol=1e-5, atol=2e-5)
    (best,) = role.of_logits(pack(rows), lambda logits: (logits.float().log_softmax(-1).amax(-1),))
    assert best.shape == wanted.shape
    assert bool((best >= wanted - 1e-4).all())


@pytest.mark.parametrize("rows", [ROWS, SEVERAL], ids=["one answer", "several answers"])
def test_rows_of_like_lengths_go_through_together_and_come_back_in_order(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_t5()
    role = role_of(model, PAD)
    together = role.logps(pack(rows))
    monkeypatch.setattr(encoder_decoder, "alike", lambda *lengths, cost: alike.alike(*lengths, cost=3))
    calls = []
    handle = model.encoder.register_forward_hook(lambda *call: calls.append(call))
    apart = role.logps(pack(rows))
    handle.remove()
    assert len(calls) > 1
    torch.testing.assert_close(apart, together, rtol=1e-5, atol=1e-5)


def test_a_checkpoint_of_the_first_t5_loads(tmp_path: Path) -> None:
    """Those of 2019 hold a table that no version of the model reads, and each tied weight under several names."""
    model = make_t5()
    model.save_pretrained(tmp_path)
    make_tokenizer(template=None).save_pretrained(tmp_path)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    unread = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    save_file(weights | {unread: torch.zeros(32, 4)}, tmp_path / "model.safetensors", {"format": "pt"})
    loaded = load_model(str(tmp_path), "seq2seq")
    assert not loaded.fresh
    assert loaded.model.lm_head.weight is loaded.model.shared.weight
    found, wanted = (role_of(one, PAD).logps(pack(ROWS)) for one in (loaded.model, model))
    assert torch.equal(found, wanted)


def test_what_stands_for_the_start_is_not_looked_at() -> None:
    role = role_of(make_t5(), PAD)
    batch = pack(ROWS)
    assert batch.branches is not None
    other = batch.ids.index_fill(0, batch.branches[:, 1], 99)
    assert torch.equal(role.logps(batch), role.logps(replace(batch, ids=other)))


def test_a_prompt_is_read_once_for_all_its_answers() -> None:
    model = make_t5()
    shapes = []
    handle = model.encoder.register_forward_pre_hook(
        lambda module, given, named: shapes.append(named["input_ids"].shape), with_kwargs=True
    )
    role_of(model, PAD).logps(pack(SEVERAL[:1]))
    handle.remove()
    assert shapes[-1] == (1, 6)


# ---- losses and gradients of a step ----------------------------------------------------------------------------------


def collated(rows: list[Row]) -> dict[str, torch.Tensor]:
    """The whole step as transformers' collator pads it: labels -100 where there is no answer."""
    pairs = [pair for one in rows for pair in sides(one)]
    widths = [max(pair[side].shape[1] for pair in pairs) for side in (0, 1)]
    ids, labels = (torch.full((len(pairs), width), fill) for width, fill in zip(widths, (PAD, -100), strict=True))
    for number, (prompt, answer) in enumerate(pairs):
        ids[number, : prompt.shape[1]], labels[number, : answer.shape[1]] = prompt[0], answer[0]
    seen = torch.arange(widths[0]) < torch.tensor([pair[0].shape[1] for pair in pairs])[:, None]
    return {"input_ids": ids, "attention_mask": seen.long(), "labels": labels}


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def stepped(role: Role, cuts: list[list[int]], smoothing: float = 0.0) -> tuple[float, dict[str, torch.Tensor]]:
    objective = build("objectives", {"seq2seq": {"label_smoothing": smoothing}})
    assert isinstance(objective, Objective)
    role.model.zero_grad()
    batches = [pack([ROWS[number] for number in cut]) for cut in cuts]
    return accumulate(objective, (), Models(role), batches).loss, gradients(role.model)


@each_model
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_an_accumulated_step_has_the_loss_and_gradient_of_transformers_over_the_whole_step(
    make: Callable[[], Any], smoothing: float
) -> None:
    """A mean over all tokens of the step's answers, however uneven its micro-batches; smoothed as its Trainer does."""
    model = make()
    whole = collated(ROWS)
    output = model(**whole)
    wanted = LabelSmoother(smoothing)(output, whole["labels"]) if smoothing else output.loss
    wanted.backward()
    expected = gradients(model)
    assert any(float(gradient.norm()) > 0.01 for gradient in expected.values())
    role = role_of(model, PAD)
    for cuts in ([[0, 1, 2, 3, 4, 5]], [[0], [1, 2, 3], [4, 5]]):
        loss, found = stepped(role, cuts, smoothing)
        assert loss == pytest.approx(wanted.item(), rel=2e-6)
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=2e-4, atol=2e-6, msg=name)


def test_blocks_that_are_computed_again_give_the_same_gradients() -> None:
    model = make_t5(dropout_rate=0.1).train()
    role = role_of(model, PAD)
    found = []
    for again in (False, True):
        if again:
            recompute(model)
        torch.manual_seed(3)
        found.append(stepped(role, [[0, 1, 2], [3, 4, 5]]))
    assert found[0][0] == found[1][0]
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-5, atol=1e-7, msg=name)


def test_a_base_in_few_bits_is_near_the_base_on_both_sides() -> None:
    """T5 asks its layers for their weight's dtype, which one in few bits has not."""
    whole = role_of(make_t5(), PAD).logps(pack(ROWS))
    adaptation = build("adaptations", {"lora": {"rank": 4, "base": "int8"}})
    assert isinstance(adaptation, Adaptation)
    model = adaptation.apply(make_t5())
    few = [name for name, module in model.named_modules() if isinstance(module, QuantizedLinear)]
    assert {name.split(".")[2] for name in few} == {"encoder", "decoder"}
    _, found = stepped(role_of(model, PAD), [[0, 1, 2, 3, 4, 5]])
    assert all(float(gradient.norm()) > 0 for name, gradient in found.items() if "lora_B" in name)
    apart = (role_of(model, PAD).logps(pack(ROWS)) - whole).norm() / whole.norm()
    assert 0 < float(apart) < 0.01


def test_noise_goes_to_what_the_encoder_reads() -> None:
    model = make_t5().train()
    role = role_of(model, PAD)
    role.embedding_noise = 5.0
    noised: list[torch.Tensor] = []
    given: list[torch.Tensor] = []
    model.encoder.register_forward_pre_hook(
        lambda module, args, named: given.append(named["input_ids"]), with_kwargs=True
    )
    model.encoder.block[0].register_forward_pre_hook(lambda module, args: noised.append(args[0]))
    model.decoder.block[0].register_forward_pre_hook(lambda module, args: noised.append(args[0]))
    torch.manual_seed(1)
    role.logps(pack([ROWS[1]]))
    read, written = noised[-2], noised[-1]
    noise = read - model.shared(given[-1])
    assert 0 < float(noise.abs().max()) <= 5.0 / (17 * 32) ** 0.5 * 1.0001
    assert torch.equal(written[0, 1:], model.shared(sides(ROWS[1])[0][1])[0, :-1])


# ---- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [make_t5, bart], ids=["T5", "BART"])
def test_greedy_answers_are_those_of_transformers(make: Callable[[], Any]) -> None:
    model = make()
    model.generation_config.eos_token_id = 2
    model.generation_config.forced_eos_token_id = None  # BART's ends at the limit whatever it would say
    prompts = [sides(one)[0][0][0].tolist() for one in ROWS]
    found = generate(model, prompts, stop=[2], pad=PAD, max_new_tokens=9)
    for prompt, answer in zip(prompts, found, strict=True):
        out = model.generate(
            torch.tensor([prompt]), max_new_tokens=9, do_sample=False, num_beams=1, bad_words_ids=[[PAD]]
        )[0]
        assert answer == [token for token in out[1:].tolist() if token != 2]
