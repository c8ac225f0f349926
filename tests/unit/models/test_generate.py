"""Generation equals transformers' own, stops where it should, and draws by item, whatever the batch."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import transformers as hf
from tiny import make_bert, make_llama

from luthier.core.errors import ModelError
from luthier.models.cache import Cache, Text
from luthier.models.generate import generate, next_tokens
from luthier.models.generate_packed import decoding_offset

LENGTHS = (5, 17, 3, 40, 1, 17)
PAD = 1
SIZE: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": PAD, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
GROUPED = SIZE | {"num_key_value_heads": 2}
FAMILIES: dict[str, Callable[[], Any]] = {
    "qwen3": lambda: hf.Qwen3Config(**GROUPED, head_dim=8),
    "mistral-window": lambda: hf.MistralConfig(**GROUPED, sliding_window=4),
    "gemma2-softcap": lambda: hf.Gemma2Config(
        **GROUPED, head_dim=8, sliding_window=4, final_logit_softcapping=3.0, attn_logit_softcapping=2.0
    ),
    "gpt-oss-sinks": lambda: hf.GptOssConfig(
        **GROUPED, head_dim=8, sliding_window=4, num_local_experts=4, num_experts_per_tok=2
    ),
    "gpt2": lambda: hf.GPT2Config(
        vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=None, eos_token_id=None
    ),
    "opt-offset": lambda: hf.OPTConfig(**SIZE, ffn_dim=48, word_embed_proj_dim=32),
    "bloom": lambda: hf.BloomConfig(vocab_size=96, hidden_size=32, n_layer=2, n_head=4, eos_token_id=None),
    "stablelm-drops-the-boundaries": lambda: hf.StableLmConfig(**GROUPED),
}


def lively_llama(**changes: object) -> Any:
    """Random weights large enough that greedy text varies."""
    return make_llama(initializer_range=0.6, tie_word_embeddings=False, **changes)


def lively_gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.4,
        bos_token_id=None, eos_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def windowed() -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=8, initializer_range=0.6, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return MistralForCausalLM(config).eval()


def prompts(seed: int = 7, vocabulary: int = 400) -> list[list[int]]:
    torch.manual_seed(seed)
    return [torch.randint(4, vocabulary, (length,)).tolist() for length in LENGTHS]


def decoder(name: str) -> Any:
    """A tiny model of another family, with larger weights than the usual, so that greedy text varies."""
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(FAMILIES[name]()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def reference(model: Any, prompt: Sequence[int], count: int, stop: list[int] | None = None) -> list[int]:
    """transformers' greedy text of one prompt, without padding; what follows the prompt, up to a stop token."""
    ids = torch.tensor([list(prompt)])
    text = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=stop,
        pad_token_id=0,
    )[0, len(prompt) :].tolist()
    return text[: next((i for i, token in enumerate(text) if token in (stop or ())), len(text))]


@pytest.mark.parametrize("make", [lively_llama, lively_gpt2, windowed])
def test_greedy_equals_transformers(make: Any) -> None:
    model = make()
    expected = [reference(model, prompt, 20) for prompt in prompts()]
    assert len(set(expected[1])) > 5  # not one token for ever
    assert generate(model, prompts(), stop=[], pad=0, max_new_tokens=20) == expected
    assert generate(model, prompts(), stop=[], pad=0, max_new_tokens=20, batch_tokens=60) == expected


@pytest.mark.parametrize("make", [lively_llama, windowed])
def test_it_stops_where_transformers_stops(make: Any) -> None:
    model = make()
    free = [reference(model, prompt, 24) for prompt in prompts()]
    stop = sorted({free[0][2], free[1][9], free[3][15], free[4][0]})
    expected = [reference(model, prompt, 24, stop) for prompt in prompts()]
    assert len({len(text) for text in expected}) >= 4  # they end at different steps, so the batch shrinks
    assert generate(model, prompts(), stop=stop, pad=0, max_new_tokens=24) == expected


def read_tokens(model: Any, **settings: Any) -> list[int]:
    """How many tokens the model reads in each forward pass of a generation."""
    sizes: list[int] = []
    handle = model.model.register_forward_pre_hook(
        lambda m, a, k: sizes.append(k["input_ids"].numel()), with_kwargs=True
    )
    generate(model, settings.pop("prompts", prompts()), pad=0, **settings)
    handle.remove()
    return sizes


def test_nothing_is_padded_and_texts_that_ended_leave_at_once() -> None:
    model = lively_llama()
    generate(model, prompts(), stop=[], pad=0, max_new_tokens=1)  # the probe
    stop = [reference(model, prompt, 4)[step] for step, prompt in enumerate(prompts()[:4])]
    lengths = [len(reference(model, prompt, 8, stop)) for prompt in prompts()]
    assert sorted(lengths)[:3] != [8, 8, 8]
    running = [sum(length > step for length in lengths) for step in range(8)]
    # A text of n tokens before its stop was read n times; one that reached the limit leaves its last token unread.
    expected = [sum(map(len, prompts())), *(count for count in running[:-1] if count)]
    assert read_tokens(model, stop=stop, max_new_tokens=8) == expected


def test_others_join_when_texts_leave() -> None:
    model = lively_llama()
    many = [prompt for seed in range(3) for prompt in prompts(seed)]
    free = [reference(model, prompt, 12) for prompt in many]
    stop = sorted({free[3][2], free[9][5], free[10][1], free[15][7]})
    expected = [reference(model, prompt, 12, stop) for prompt in many]
    assert generate(model, many, stop=stop, pad=0, max_new_tokens=12, batch_tokens=150) == expected
    sizes = read_tokens(model, prompts=many, stop=stop, max_new_tokens=12, batch_tokens=150)
    assert max(sizes) <= 150


def test_putting_texts_together_never_holds_more_than_one_layer_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, texts = Cache(torch.device("cpu")), [Text(0, 5), Text(1, 40)]
    cache.arrange(texts)
    kept = [(torch.randn(45, 2, 4), torch.randn(45, 2, 3)) for _ in range(6)]
    cache.fill(kept, {texts[0]: torch.arange(5), texts[1]: torch.arange(5, 45)})
    before = [weakref.ref(tensor) for layer in cache._layers for tensor in layer]
    alive: list[int] = []
    empty = Cache._empty

    def counting(self: Cache, *layer: Any) -> Any:
        alive.append(sum(tensor() is not None for tensor in before))
        return empty(self, *layer)

    monkeypatch.setattr(Cache, "_empty", counting)
    cache.arrange()
    assert alive == [12, 10, 8, 6, 4, 2]
    rows = cache._rows(texts, 2)
    for layer, given in zip(cache._layers, kept, strict=True):
        for found, wanted in zip(layer, given, strict=True):
            parts = [part.transpose(0, 1).flatten(0, 1) for part in (wanted[:5], wanted[5:])]
            assert torch.equal(found[rows], torch.cat(parts))


def test_equal_prompts_and_shared_beginnings_are_read_once() -> None:
    model = lively_llama()
    beginning = prompts()[3]
    asked = [beginning + prompt for prompt in prompts()] + [beginning] + [prompts()[1]] * 3 + [beginning + prompts()[0]]
    expected = [reference(model, prompt, 10) for prompt in asked]
    assert generate(model, asked, stop=[], pad=0, max_new_tokens=10) == expected
    sizes = read_tokens(model, prompts=asked, stop=[], max_new_tokens=10)
    shared = len(beginning) - 1  # the beginning is itself a prompt, and a prompt has a token of its own
    rests = sum(len(prompt) - shared for prompt in dict.fromkeys(map(tuple, asked)) if len(prompt) > 17)
    assert sizes[0] == shared
    assert sizes[1] == rests + 17
    assert sizes[2] == len(asked)


@pytest.mark.parametrize("name", ["qwen3", "mistral-window", "gemma2-softcap", "gpt-oss-sinks", "gpt2", "opt-offset"])
def test_every_kind_of_attention_packed(name: str) -> None:
    model = decoder(name)
    begun = [prompt[:30] for prompt in prompts(vocabulary=96)]
    begun.append(begun[3][:20] + begun[1][:6])
    expected = [reference(model, prompt, 12) for prompt in begun]
    assert generate(model, begun, stop=[], pad=PAD, max_new_tokens=12, batch_tokens=120) == expected
    assert decoding_offset(model, PAD) is not None


@pytest.mark.parametrize("name", ["bloom", "stablelm-drops-the-boundaries"])
def test_models_that_cannot_be_packed_are_padded(name: str) -> None:
    model = decoder(name)
    begun = [prompt[:30] for prompt in prompts(vocabulary=96)]
    stop = [reference(model, begun[1], 5)[4]]
    expected = [reference(model, prompt, 12, stop) for prompt in begun]
    assert decoding_offset(model, PAD) is None
    assert generate(model, begun, stop=stop, pad=PAD, max_new_tokens=12) == expected
    assert generate(model, begun, stop=stop, pad=PAD, max_new_tokens=12, batch_tokens=60) == expected


def test_a_model_that_decodes_otherwise_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively_llama()
    monkeypatch.setattr(Cache, "attend", lambda self, layer, query, key, value, **rule: query)
    assert decoding_offset(model, 0) is None
    assert generate(model, prompts(), stop=[], pad=0, max_new_tokens=9) == [reference(model, p, 9) for p in prompts()]


def test_it_may_follow_and_precede_training() -> None:
    model = lively_llama().train()
    ids = torch.tensor([prompts()[1]])
    model(input_ids=ids, labels=ids).loss.backward()
    before = [parameter.grad.clone() for parameter in model.parameters()]
    generate(model, prompts(), stop=[], pad=0, max_new_tokens=3)
    model.zero_grad()
    model(input_ids=ids, labels=ids).loss.backward()
    for parameter, wanted in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-4, atol=2e-5)  # fused norms round otherwise


def test_draws_belong_to_the_item_and_not_to_the_batch() -> None:
    model = lively_llama()
    settings: dict[str, Any] = {"stop": [], "pad": 0, "max_new_tokens": 12, "temperature": 1.5, "top_p": 0.95}
    together = generate(model, prompts(), seeds=range(100, 106), **settings)
    alone = [generate(model, [p], seeds=[100 + i], **settings)[0] for i, p in enumerate(prompts())]
    assert together == alone
    other = generate(model, prompts(), seeds=range(200, 206), **settings)
    assert all(a != b for a, b in zip(together, other, strict=True))


def test_the_global_random_state_is_not_touched() -> None:
    state = torch.get_rng_state()
    generate(lively_llama(), prompts(), stop=[], pad=0, max_new_tokens=3, temperature=1.0)
    assert torch.equal(state, torch.get_rng_state())


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -2.0]])
    count = 20_000
    even = (torch.arange(count, dtype=torch.float64) + 0.5) / count  # a grid: frequencies are exact to one part
    for temperature in (1.0, 0.5):
        drawn = next_tokens(logits.expand(count, -1), temperature, 1.0, even)
        found = torch.bincount(drawn, minlength=5) / count
        torch.testing.assert_close(found, (logits[0] / temperature).softmax(-1), atol=1.1 / count, rtol=0)


@pytest.mark.parametrize("top_p", [0.3, 0.7, 0.95])
def test_the_nucleus_is_transformers(top_p: float) -> None:
    from transformers import TopPLogitsWarper

    torch.manual_seed(1)
    logits = torch.randn(1, 50) * 2
    kept = TopPLogitsWarper(top_p)(torch.zeros(1, 1, dtype=torch.long), logits.clone()).softmax(-1)[0]
    count = 20_000
    even = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    drawn = next_tokens(logits.expand(count, -1), 1.0, top_p, even)
    torch.testing.assert_close(torch.bincount(drawn, minlength=50) / count, kept, atol=1.1 / count, rtol=0)


def test_a_draw_at_the_edge_is_a_token_with_probability() -> None:
    logits = torch.tensor([[0.0, 0.0, float("-inf")], [float("-inf"), 0.0, float("-inf")]])
    draw = torch.tensor([1 - 2**-53, 0.0], dtype=torch.float64)
    assert next_tokens(logits, 1.0, 1.0, draw).tolist() == [1, 1]
    assert next_tokens(logits, 1.0, 0.99, draw).tolist() == [1, 1]


def test_a_prompt_too_long_loses_its_beginning_and_nothing_else() -> None:
    model = lively_gpt2()  # 64 positions, learned: running past them is an IndexError
    torch.manual_seed(3)
    long = torch.randint(4, 400, (100,)).tolist()
    with pytest.warns(UserWarning, match="1 of 2 prompts"):
        found = generate(model, [long, long[:4]], stop=[], pad=0, max_new_tokens=16)
    assert found == [reference(model, long[-48:], 16), reference(model, long[:4], 16)]


def test_more_new_tokens_than_positions_leaves_the_prompt_its_half() -> None:
    model = lively_gpt2()
    torch.manual_seed(3)
    long = torch.randint(4, 400, (100,)).tolist()
    with pytest.warns(UserWarning, match="longer than 32 tokens"):
        found = generate(model, [long, long[:4]], stop=[], pad=0, max_new_tokens=500)
    assert [len(text) for text in found] == [32, 60]
    assert found[0] == reference(model, long[-32:], 32)
    assert found[1] == reference(model, long[:4], 60)


def test_an_adapter_generates_as_its_merged_model() -> None:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(lively_llama(), LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    found = generate(adapted, prompts(), stop=[], pad=0, max_new_tokens=10)
    assert found != generate(lively_llama(), prompts(), stop=[], pad=0, max_new_tokens=10)
    assert found == generate(adapted.merge_and_unload(), prompts(), stop=[], pad=0, max_new_tokens=10)


def test_training_mode_comes_back_module_by_module() -> None:
    model = lively_llama(attention_dropout=0.5).train()
    model.model.norm.eval()
    assert generate(model, prompts(), stop=[], pad=0, max_new_tokens=5) == generate(
        model, prompts(), stop=[], pad=0, max_new_tokens=5
    )
    assert model.training
    assert model.model.layers[0].training
    assert not model.model.norm.training


def test_nothing_to_do_and_what_cannot_be_done() -> None:
    model = lively_llama()
    assert generate(model, [], stop=[], pad=0, max_new_tokens=5) == []
    with pytest.raises(ValueError, match="no token"):
        generate(model, [[]], stop=[], pad=0, max_new_tokens=5)
    with pytest.raises(ModelError, match="key-value cache"):
        generate(make_bert(), [[1, 2]], stop=[], pad=0, max_new_tokens=5)
