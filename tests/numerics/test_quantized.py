"""Frozen weights in eight and four bits: by hand, beside dense products, in bytes, and beneath LoRA."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from numerics.test_adaptations import log_probabilities, train
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from luthier.core.component import build
from luthier.core.errors import ModelError
from luthier.functional.low_rank import low_rank_linear
from luthier.functional.low_rank_gated import LowRank, low_rank_gated
from luthier.functional.quantized import quantize, quantized_linear
from luthier.models.cast import cast
from luthier.models.export import save_model
from luthier.models.load import load_model
from luthier.models.quantized import QuantizedLinear, rounded
from luthier.models.roles import role_of

BITS = ["int8", "int4"]
bits_of = pytest.mark.parametrize("bits", BITS)


def lora(bits: str | None, **parameters: object):
    return build("adaptations", {"lora": {"rank": 4, "base": bits, **parameters}})


def test_eight_bits_by_hand() -> None:
    found = quantize(torch.tensor([[1.0, -2.54, 0.03], [0.0, 0.0, 0.0]]), "int8")
    assert found.codes.tolist() == [[50, -127, 2], [0, 0, 0]]  # a step is 0.02; 1.5 of them round to the even 2
    torch.testing.assert_close(found.dense(torch.float32), torch.tensor([[1.0, -2.54, 0.04], [0.0, 0.0, 0.0]]))


def test_four_bits_by_hand() -> None:
    """Largest of the first group is +4: a step of -0.5, so that it has the code 0. The second group is filled up."""
    row = torch.zeros(1, 35)
    row[0, :4] = torch.tensor([4.0, -3.0, 0.7, -4.0])
    row[0, 32:] = torch.tensor([-8.0, 3.4, 0.0])
    found = quantize(row, "int4")
    assert found.scales.tolist() == [[-0.5, 1.0]]
    assert found.codes.shape == (1, 32)
    assert found.codes[0, :3].tolist() == [0 + 16 * 14, 7 + 16 * 15, 8 + 16 * 8]  # -4 would be 16: clipped to 15
    assert found.codes[0, 16:18].tolist() == [0 + 16 * 11, 8 + 16 * 8]
    expected = row.clone()
    expected[0, :4] = torch.tensor([4.0, -3.0, 0.5, -3.5])
    expected[0, 33] = 3.0
    assert torch.equal(found.dense(torch.float32), expected)


@bits_of
@pytest.mark.parametrize(("reach", "width"), [(1e-20, 33), (1.0, 64), (1e20, 7)])
def test_no_number_strays_farther_than_its_step(bits: str, reach: float, width: int) -> None:
    weight = torch.randn(5, width, generator=torch.Generator().manual_seed(1)) * reach
    found = quantize(weight, bits)  # type: ignore[arg-type]
    steps = found.scales.float().abs()
    if bits == "int4":
        steps = steps.repeat_interleave(32, dim=1)[:, :width]
    apart = (found.dense(torch.float32) - weight).abs()
    assert (apart <= steps * (0.501 if bits == "int8" else 1.02)).all()


@bits_of
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_and_gradients_are_those_of_the_dense_matrix(bits: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    packs = [quantize(torch.randn(*shape) / 6, bits) for shape in ((48, 40), (48, 40), (40, 48))]  # type: ignore[arg-type]
    changes = [LowRank(p, torch.randn(3, p.width), torch.randn(len(p.codes), 3), 0.5) for p in packs]
    bias = torch.randn(48).to(dtype)

    def three(weights: list) -> list[Tensor]:
        given = torch.randn(2, 9, 40, generator=torch.Generator().manual_seed(2)).to(dtype).requires_grad_()
        first = changes[0]
        down, up = first.down.clone().requires_grad_(), first.up.clone().requires_grad_()
        parts = [change._replace(weight=weight) for change, weight in zip(changes, weights, strict=True)]
        found = []
        plain = isinstance(weights[0], Tensor)
        linear = nn.functional.linear if plain else quantized_linear
        for output in (
            linear(given, weights[0], bias),
            low_rank_linear(given, weights[0], bias, down, up, 0.5),
            low_rank_gated(given, *(parts[0]._replace(down=down, up=up), *parts[1:])),
        ):
            found.append(output)
            found += [
                g
                for g in torch.autograd.grad(output.float().sin().sum(), [given, down, up], allow_unused=True)
                if g is not None
            ]
        return found

    dense = three([p.dense(dtype) for p in packs])
    for found, wanted in zip(three(packs), dense, strict=True):
        assert torch.equal(found, wanted)


def layers_of(model: nn.Module) -> list[QuantizedLinear]:
    return [module for module in model.modules() if isinstance(module, QuantizedLinear)]


def bytes_of(tensors) -> int:
    return sum({t.data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize(("bits", "share"), [("int8", 0.26), ("int4", 0.15)])
def test_the_bytes_of_a_real_model_are_those_of_the_bits(bits: str, share: float) -> None:
    """Storages, not element counts: and nothing dense is held beside them, by the model or by a backward pass."""
    model = load_model("embedded:nano", "causal_lm", dtype=torch.bfloat16).model
    names = [name for name, module in model.named_modules() if type(module) is nn.Linear and name != "lm_head"]
    dense = sum(4 * model.get_submodule(name).weight.numel() for name in names)
    blocks = model.config.num_hidden_layers
    model = lora(bits).apply(model)
    assert len(layers_of(model)) == len(names) == 7 * blocks
    held = bytes_of(tensor for layer in layers_of(model) for tensor in (*layer.parameters(), *layer.buffers()))
    assert held <= share * dense
    others = bytes_of(p for name, p in model.named_parameters() if "lora_" in name or "embed" in name or "norm" in name)
    rotary = bytes_of(b for name, b in model.named_buffers() if "rotary" in name)
    assert bytes_of((*model.parameters(), *model.buffers())) == held + others + rotary

    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        model(input_ids=torch.arange(20)[None])
    shapes = {tuple(layer.packed.dense(torch.bfloat16).shape) for layer in layers_of(model)}
    assert not any(tuple(t.shape) in shapes or tuple(t.t().shape) in shapes for t in kept if t.dim() == 2)


@bits_of
@pytest.mark.parametrize("parameters", [{}, {"init": "pissa"}, {"targets": ["q_proj"]}], ids=str)
def test_life_over_a_base_in_few_bits(llama, bits: str, parameters: dict, tmp_path: Path) -> None:
    """Step 0 is the rounded model, merged is the tuned one as a plain model, and files know the base."""
    adaptation, fresh = lora(bits, **parameters), copy.deepcopy(llama)
    wanted = log_probabilities(rounded(copy.deepcopy(llama), bits))  # type: ignore[arg-type]
    model = adaptation.apply(llama)
    assert torch.equal(log_probabilities(model.eval()), wanted)
    frozen = {name: b.clone() for name, b in model.named_buffers()}
    train(adaptation, model.train())
    assert all(torch.equal(b, frozen[name]) for name, b in model.named_buffers())
    tuned = log_probabilities(model.eval())
    assert not torch.equal(tuned, wanted)

    adaptation.save(model, tmp_path)
    assert json.loads((tmp_path / "base.json").read_text()) == {"base": bits}
    again = adaptation.apply(copy.deepcopy(fresh)).eval()
    adaptation.load(again, tmp_path)
    assert torch.equal(log_probabilities(again), tuned)
    other = lora(None, **parameters).apply(copy.deepcopy(fresh))
    with pytest.raises(ModelError, match=f"trained over a base in {bits}"):
        lora(None, **parameters).load(other, tmp_path)

    merged = adaptation.merge(model)
    assert type(merged) is type(fresh)
    assert not layers_of(merged)
    torch.testing.assert_close(log_probabilities(merged), tuned, rtol=0, atol=2e-5)
    assert {name for name, _ in merged.named_parameters()} == {name for name, _ in fresh.named_parameters()}


@bits_of
def test_an_encoder_and_gpt2_hold_their_blocks_in_few_bits(bert, bits: str) -> None:
    """GPT-2's matrices lie transposed; a head and its pooler stay as they are."""
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=64)).eval()
    for base, count in ((bert, 12), (gpt2, 8)):
        wanted = log_probabilities(rounded(copy.deepcopy(base), bits))  # type: ignore[arg-type]
        assert not torch.equal(wanted, log_probabilities(base))
        names = {name: p.shape for name, p in base.named_parameters()}
        adaptation = lora(bits)
        model = adaptation.apply(base)
        assert len(layers_of(model)) == count
        assert torch.equal(log_probabilities(model.eval()), wanted)
        train(adaptation, model)
        tuned = log_probabilities(model.eval())
        merged = adaptation.merge(model)
        torch.testing.assert_close(log_probabilities(merged), tuned, rtol=0, atol=2e-5)
        assert {name: p.shape for name, p in merged.named_parameters()} == names


@bits_of
def test_codes_do_not_depend_on_the_dtype_that_the_model_was_loaded_in(llama, bits: str) -> None:
    half = lora(bits).apply(cast(copy.deepcopy(llama), torch.bfloat16))
    for one, two in zip(layers_of(half), layers_of(lora(bits).apply(llama)), strict=True):
        assert torch.equal(one.codes, two.codes)
        assert torch.equal(one.scales, two.scales)


def test_an_adapter_folder_is_folded_into_the_weights_that_it_was_trained_over(
    llama_folder: Path, tmp_path: Path
) -> None:
    loaded = load_model(str(llama_folder), "causal_lm")
    adaptation = lora("int4")
    model = adaptation.apply(loaded.model)
    train(adaptation, model)
    adaptation.save(model, tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": str(llama_folder)}))
    tuned = log_probabilities(model.eval())
    found = load_model(str(tmp_path / "adapter"), "causal_lm").model
    torch.testing.assert_close(log_probabilities(found), tuned, rtol=0, atol=2e-5)
    save_model(adaptation.merge(model), loaded.tokenizer, tmp_path / "model")
    again = load_model(str(tmp_path / "model"), "causal_lm").model
    torch.testing.assert_close(log_probabilities(again), tuned, rtol=0, atol=2e-5)
    (tmp_path / "adapter" / "base.json").write_text('{"base": "int3"}')
    with pytest.raises(ModelError, match="in how many bits"):
        load_model(str(tmp_path / "adapter"), "causal_lm")


def test_on_a_trained_model_the_loss_is_within_two_percent_of_bfloat16s() -> None:
    """Eight steps on the same texts; held out are others of the same kind."""
    lines = (files("luthier.embedded") / "data/shop-preferences.jsonl").read_text(encoding="utf-8").splitlines()
    tokenizer = load_model("embedded:nano", "causal_lm").tokenizer
    answers = [json.loads(line)["chosen"] for line in lines[:40]]
    ids = [torch.tensor(tokenizer(str(answer))["input_ids"][:64]) for answer in answers]
    losses = {bits: _held_out(bits, ids) for bits in (None, *BITS)}
    before, after = losses[None]
    assert after < 0.9 * before
    for bits in BITS:
        assert losses[bits][1] == pytest.approx(after, rel=0.02), bits


def _held_out(bits: str | None, ids: list[Tensor]) -> tuple[float, float]:
    """Mean loss a token of the last eight texts, before and after training on the others."""
    model = load_model("embedded:nano", "causal_lm", dtype=torch.bfloat16).model
    torch.manual_seed(1)
    adaptation = lora(bits, rank=8)
    model = adaptation.apply(model).train()
    role_of(model, 0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3, weight_decay=0.0)

    def loss(some: list[Tensor]) -> Tensor:
        together = nn.utils.rnn.pad_sequence(some, batch_first=True, padding_value=-100)
        mask = together != -100
        return model(input_ids=together.clamp(min=0), attention_mask=mask.long(), labels=together).loss

    with torch.no_grad():
        before = float(loss(ids[-8:]))
    for step in range(8):
        loss(ids[step % 4 * 8 :][:8]).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return before, float(loss(ids[-8:]))
