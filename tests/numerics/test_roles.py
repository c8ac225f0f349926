"""Roles over tiny models of many families: packed equals unpacked, padded equals packed, and plain use still works."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from torch import nn

from luthier.core.contracts import Batch, Row
from luthier.core.errors import ModelError
from luthier.functional.packing import pack, sequence_index
from luthier.models.attention import packed_call, position_offset, transformer_of
from luthier.models.cast import cast
from luthier.models.roles import Models, Role, role_of

PAD = 1
SIZE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": PAD,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
GROUPED = SIZE | {"num_key_value_heads": 2}
GPT2 = {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "pad_token_id": PAD}

DECODERS: dict[str, Callable[[], Any]] = {
    "llama": lambda: hf.LlamaConfig(**GROUPED),
    "qwen2": lambda: hf.Qwen2Config(**GROUPED),
    "qwen3": lambda: hf.Qwen3Config(**GROUPED, head_dim=8),
    "mistral-window": lambda: hf.MistralConfig(**GROUPED, sliding_window=4),
    "gemma2-softcap": lambda: hf.Gemma2Config(
        **GROUPED, head_dim=8, sliding_window=4, final_logit_softcapping=3.0, attn_logit_softcapping=2.0
    ),
    "granite-scale": lambda: hf.GraniteConfig(**GROUPED, logits_scaling=4.0, attention_multiplier=0.2),
    "gpt-oss-sinks": lambda: hf.GptOssConfig(
        **GROUPED, head_dim=8, sliding_window=4, num_local_experts=4, num_experts_per_tok=2
    ),
    "gpt2": lambda: hf.GPT2Config(**GPT2),
    "opt-offset": lambda: hf.OPTConfig(**SIZE, ffn_dim=48, word_embed_proj_dim=32),
}
UNPACKABLE: dict[str, Callable[[], Any]] = {
    "mamba": lambda: hf.MambaConfig(vocab_size=96, hidden_size=32, num_hidden_layers=2, state_size=4, pad_token_id=PAD),
    "stablelm-drops-the-boundaries": lambda: hf.StableLmConfig(**GROUPED),
    "lfm2-convolves": lambda: hf.Lfm2Config(**GROUPED, layer_types=["conv", "full_attention"]),
    "bloom": lambda: hf.BloomConfig(vocab_size=96, hidden_size=32, n_layer=2, n_head=4, pad_token_id=PAD),
}
ENCODERS: dict[str, Callable[[], Any]] = {
    "bert": lambda: hf.BertConfig(**SIZE, num_labels=3),
    "roberta": lambda: hf.RobertaConfig(**SIZE, num_labels=3),
    "electra": lambda: hf.ElectraConfig(**SIZE, embedding_size=32, num_labels=3),
    "distilbert": lambda: hf.DistilBertConfig(
        vocab_size=96,
        dim=32,
        hidden_dim=48,
        n_layers=2,
        n_heads=4,
        max_position_embeddings=64,
        num_labels=3,
        pad_token_id=1,
    ),
    "modernbert-mean": lambda: hf.ModernBertConfig(
        **SIZE, num_labels=3, classifier_pooling="mean", local_attention=4, cls_token_id=0, sep_token_id=2
    ),
    "llama-score": lambda: hf.LlamaConfig(**GROUPED, num_labels=3),
    "gpt2-score": lambda: hf.GPT2Config(**GPT2, num_labels=3),
}


def decoder(name: str) -> Any:
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config((DECODERS | UNPACKABLE)[name]()).eval()
    return widen(model)


def classifier(name: str) -> Any:
    torch.manual_seed(0)
    model = hf.AutoModelForSequenceClassification.from_config((ENCODERS | DECODERS)[name]()).eval()
    return widen(model)


def widen(model: Any) -> Any:
    """Larger weights than the usual 0.02, so that attention is not flat and a leak would show."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    return model


def rows(seed: int = 0, lengths: tuple[int, ...] = (9, 4, 13, 4)) -> list[Row]:
    """Rows whose middle tokens may be the padding token: padding must come from lengths."""
    random = np.random.default_rng(seed)
    made = []
    for number, length in enumerate(lengths):
        ids = random.integers(3, 96, length)
        ids[-1] = PAD if number == 1 else ids[-1]
        marks = random.random(length) < 0.6
        marks[0], marks[-1] = False, True
        made.append(Row(f"row{number}", ids, marks))
    return made


def unpacked_logps(model: Any, row: Row) -> torch.Tensor:
    """What transformers itself gives for one row alone."""
    ids = torch.from_numpy(row.ids)
    logits = model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None]).logits[0].float()
    every = torch.log_softmax(logits[:-1], dim=-1).gather(1, ids[1:, None])[:, 0]
    return every[torch.from_numpy(row.supervised[1:])]


def gradient_of(model: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_gradients(ours: dict[str, torch.Tensor], reference: dict[str, torch.Tensor], share: float) -> None:
    assert ours.keys() == reference.keys()
    largest = max(float(value.abs().max()) for value in reference.values())
    for name, value in reference.items():
        assert float((ours[name] - value).abs().max()) <= share * largest, name


@pytest.mark.parametrize("name", DECODERS)
def test_a_pack_is_the_sum_of_its_rows_in_loss_and_gradient(name: str) -> None:
    model = decoder(name)
    role = role_of(model, PAD)
    assert role.packed
    found = role.logps(pack(rows()))
    wanted = torch.cat([unpacked_logps(model, row) for row in rows()])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)
    assert_same_gradients(gradient_of(model, found.sum()), gradient_of(model, wanted.sum()), 1e-5)


@pytest.mark.parametrize("name", UNPACKABLE)
def test_a_model_that_cannot_be_packed_is_padded_and_equals(name: str) -> None:
    model = decoder(name)
    before = model.config._attn_implementation
    role = role_of(model, PAD)
    assert not role.packed
    assert position_offset(model, PAD) is None
    assert model.config._attn_implementation == before
    found = role.logps(pack(rows()))
    wanted = torch.cat([unpacked_logps(model, row) for row in rows()])
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)
    assert_same_gradients(gradient_of(model, found.sum()), gradient_of(model, wanted.sum()), 1e-5)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral-window"])
def test_padding_a_model_that_packs_gives_the_same(name: str) -> None:
    model = decoder(name)
    role = role_of(model, PAD)
    padded = Role(model, PAD, None)
    ours, theirs = role.logps(pack(rows())), padded.logps(pack(rows()))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    assert_same_gradients(gradient_of(model, ours.sum()), gradient_of(model, theirs.sum()), 1e-5)


def test_rows_do_not_feel_their_neighbors() -> None:
    role = Models(role_of(decoder("llama"), PAD)).policy
    first, second, third = rows(0)[0], rows(0)[2], rows(5)[2]
    one = role.logps(pack([second, first]))
    other = role.logps(pack([third, first]))
    tail = int(first.supervised.sum())
    assert torch.equal(one[-tail:], other[-tail:])


def test_nothing_supervised_gives_zero_attached_to_the_graph() -> None:
    for name in ("llama", "bloom"):
        model = decoder(name)
        silent = [Row(row.id, row.ids, np.zeros_like(row.supervised)) for row in rows()]
        total = role_of(model, PAD).logps(pack(silent)).sum()
        assert total.item() == 0.0
        gradients = gradient_of(model, total)
        assert gradients
        assert not any(value.any() for value in gradients.values())


def test_smoothing_is_cross_entropys() -> None:
    model = decoder("llama")
    row = Row("row", rows()[0].ids, np.arange(9) > 0)
    ids = torch.from_numpy(row.ids)
    loss = nn.functional.cross_entropy(model(input_ids=ids[None]).logits[0, :-1], ids[1:], label_smoothing=0.2)
    assert role_of(model, PAD).logps(pack([row]), 0.2).mean().item() == pytest.approx(-loss.item(), abs=1e-6)


@pytest.mark.parametrize("name", ENCODERS)
def test_class_logits_of_a_pack_equal_each_row_alone(name: str) -> None:
    model = classifier(name)
    role = role_of(model, PAD)
    assert role.packed
    items = [Row(row.id, np.where(row.ids == PAD, 5, row.ids), np.zeros_like(row.supervised)) for row in rows()]
    found = role.class_logits(pack(items))
    wanted = torch.cat([model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits for ids in map(as_row, items)])
    assert found.shape == (4, 3)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    weights = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    ours = gradient_of(model, (found * weights).sum())
    assert_same_gradients(ours, gradient_of(model, (wanted * weights).sum()), 1e-5)
    padded = Role(model, PAD, None).class_logits(pack(items))
    torch.testing.assert_close(padded, wanted, rtol=0, atol=1e-5)


def test_a_head_that_cannot_take_packed_states_is_padded() -> None:
    torch.manual_seed(0)
    model = widen(hf.AlbertForSequenceClassification(hf.AlbertConfig(**SIZE, embedding_size=16, num_labels=3))).eval()
    role = role_of(model, PAD)
    assert not role.packed
    items = [Row(row.id, np.where(row.ids == PAD, 5, row.ids), np.zeros_like(row.supervised)) for row in rows()]
    wanted = torch.cat([model(input_ids=as_row(row)).logits for row in items])
    torch.testing.assert_close(role.class_logits(pack(items)), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_classifiers_pack_in_bfloat16(name: str) -> None:
    model = cast(classifier(name), torch.bfloat16)
    assert role_of(model, PAD).packed


def as_row(row: Row) -> torch.Tensor:
    return torch.from_numpy(row.ids)[None]


def test_a_last_token_that_equals_the_padding_is_still_the_last() -> None:
    model = classifier("llama-score")
    items = [Row("a", np.array([5, 6, PAD]), np.zeros(3, bool)), Row("b", np.array([7, 8, 9, 10]), np.zeros(4, bool))]
    with torch.no_grad():
        found = role_of(model, PAD).class_logits(pack(items))
        hidden = model.model(input_ids=as_row(items[0])).last_hidden_state[0, -1]
        torch.testing.assert_close(found[0], model.score(hidden), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_a_pack_may_be_longer_than_the_position_table(name: str) -> None:
    model = classifier(name)
    role = role_of(model, PAD)
    items = [Row(str(n), np.arange(5, 5 + 30), np.zeros(30, bool)) for n in range(5)]
    with torch.no_grad():
        found = role.class_logits(pack(items))
        wanted = model(input_ids=as_row(items[0])).logits
    torch.testing.assert_close(found, wanted.expand(5, 3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "mistral-window", "gpt2", "gemma2-softcap", "gpt-oss-sinks"])
def test_generation_and_plain_use_are_untouched(name: str) -> None:
    plain, model = decoder(name), decoder(name)
    assert position_offset(model, PAD) is not None
    prompts = torch.tensor([[PAD, PAD, 5, 6, 7], [8, 9, 10, 11, 12]])
    call = {"input_ids": prompts, "attention_mask": (prompts != PAD).long()}
    with torch.no_grad():
        torch.testing.assert_close(model(**call).logits, plain(**call).logits, rtol=0, atol=0)
    settings: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": PAD, "eos_token_id": None}
    assert torch.equal(model.generate(**call, **settings), plain.generate(**call, **settings))


def test_a_saved_model_does_not_ask_for_this_attention(tmp_path: Any) -> None:
    model = decoder("llama")
    assert position_offset(model, PAD) is not None
    model.save_pretrained(tmp_path)
    assert "luthier" not in (tmp_path / "config.json").read_text()


def test_a_layer_without_boundaries_raises_in_a_packed_call() -> None:
    model = decoder("llama")
    assert position_offset(model, PAD) is not None
    ids = torch.tensor([[5, 6, 7]])
    with packed_call(), pytest.raises(ModelError, match="without the boundaries"):
        model(input_ids=ids)
    with packed_call(), pytest.raises(ModelError, match="one packed row"):
        model(input_ids=ids.expand(2, 3), cu_seq_lens_q=torch.tensor([0, 3, 6]))


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_recomputes_with_the_boundaries(reentrant: bool) -> None:
    model = decoder("llama").train()
    role = role_of(model, PAD)
    wanted = gradient_of(model, role.logps(pack(rows())).sum())
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    assert_same_gradients(gradient_of(model, role.logps(pack(rows())).sum()), wanted, 1e-6)


def test_dropout_follows_the_modules_mode() -> None:
    torch.manual_seed(0)
    model = hf.AutoModelForSequenceClassification.from_config(
        hf.BertConfig(**SIZE, num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5)
    )
    widen(model).eval()
    role = role_of(model, PAD)
    batch = pack(rows())
    with torch.no_grad():
        quiet = role.class_logits(batch)
        assert torch.equal(quiet, role.class_logits(batch))
        model.train()
        assert not torch.allclose(quiet, role.class_logits(batch), atol=1e-4)


def test_probing_leaves_every_modules_mode_as_it_was() -> None:
    model = decoder("llama").train()
    model.model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    role_of(model, PAD).logps(pack(rows()))
    assert modes == [module.training for module in model.modules()]


@pytest.mark.parametrize("target", ["layers", "head", "saved-head"])
def test_peft_models_and_adapted_heads(target: str) -> None:
    import peft

    model = decoder("llama")
    settings: dict[str, Any] = {
        "layers": {"target_modules": ["q_proj", "v_proj"]},
        "head": {"target_modules": ["q_proj", "lm_head"]},
        "saved-head": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    }[target]
    torch.manual_seed(0)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, init_lora_weights=False, **settings)).eval()
    role = role_of(adapted, PAD)
    assert role.packed
    assert transformer_of(adapted) is model
    found = role.logps(pack(rows()))
    wanted = torch.cat([unpacked_logps(adapted, row) for row in rows()])
    torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)
    ours = gradient_of(adapted, found.sum())
    assert_same_gradients(ours, gradient_of(adapted, wanted.sum()), 1e-5)
    assert all("lora_" in name or "modules_to_save" in name for name in ours)


def test_bfloat16_packs_and_stays_near_float32() -> None:
    model = decoder("llama")
    exact = role_of(copy.deepcopy(model), PAD).logps(pack(rows()))
    role = role_of(cast(model, torch.bfloat16), PAD)
    assert role.packed
    found = role.logps(pack(rows()))
    assert found.dtype == torch.float32
    assert float((found - exact).detach().norm()) <= 0.05 * float(exact.detach().norm())


class TestEmbeddingNoise:
    def noises(self, role: Role, batch: Batch) -> torch.Tensor:
        """[T, H]: what the noise added to the embeddings, read at the entry of the first layer."""
        seen: list[torch.Tensor] = []
        layer = role.model.get_submodule("model.layers.0")
        hook = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
        role.logps(batch)
        role.embedding_noise, alpha = 0.0, role.embedding_noise
        role.logps(batch)
        role.embedding_noise = alpha
        hook.remove()
        found = seen[0] - seen[1]
        return found[0] if role.packed else found[0, : len(batch.ids)]

    def test_is_uniform_with_the_papers_reach_for_each_sequence(self) -> None:
        role = role_of(decoder("llama").train(), PAD)
        role.embedding_noise = 5.0
        batch = pack(rows(lengths=(60, 4)))
        torch.manual_seed(0)
        noise = self.noises(role, batch)
        owner = sequence_index(batch.starts)
        for sequence, length in enumerate((60, 4)):
            reach = 5.0 / (length * 32) ** 0.5
            part = noise[owner == sequence]
            assert reach * 0.9 < float(part.abs().max()) <= reach * 1.0001
            assert float(part.std()) == pytest.approx(reach / 3**0.5, rel=0.15)

    def test_is_silent_outside_training_and_in_the_padded_way_the_same_size(self) -> None:
        model = decoder("llama")
        role = role_of(model, PAD)
        batch = pack(rows(lengths=(20,)))
        role.embedding_noise = 5.0
        assert not self.noises(role, batch).any()
        model.train()
        padded = Role(model, PAD, None, embedding_noise=5.0)
        assert 0 < float(self.noises(padded, batch).abs().max()) <= 5.0 / (20 * 32) ** 0.5 * 1.0001


def test_what_a_role_cannot_do_is_said() -> None:
    with pytest.raises(ModelError, match="states of two texts"):
        role_of(
            hf.T5ForConditionalGeneration(hf.T5Config(vocab_size=96, d_model=16, d_ff=16, num_layers=1, num_heads=2)), 0
        ).vectors(pack(rows()))
    with pytest.raises(ModelError, match="no output layer"):
        role_of(classifier("bert"), PAD).logps(pack(rows()))
    with pytest.raises(ModelError, match="no classification head"):
        role_of(decoder("llama"), PAD).class_logits(pack(rows()))
    with pytest.raises(ModelError, match="no transformers model"):
        role_of(nn.Linear(2, 2), PAD)
