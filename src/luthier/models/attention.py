"""Packed attention inside transformers' models, and the probe that tells whether a model can be packed.

The attention function is registered in transformers' attention and mask interfaces. A model that packs keeps it for
good: a call that brings boundaries (`cu_seq_lens_q`, which travel as a keyword argument through PEFT and gradient
checkpointing) is computed per sequence; any other call (generation, plain use) goes to the implementation the model
came with. Of rows that branch these are the boundaries of the sequences in which attention works, and `cu_seq_lens_k`
says where in the pack each of their tokens lies (functional/branches.py, Attended).

Errors: ModelError when a packed call reaches an attention layer without its boundaries: its sequences would leak.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from inspect import signature
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ..core.errors import ModelError
from ..functional.attention import packed_attention
from ..functional.branches import Attended
from .rotary import frequency_limit

__all__ = [
    "REFUSALS",
    "Heads",
    "Memory",
    "attention_layers",
    "backbone_of",
    "hidden_states",
    "looks_back",
    "packed_call",
    "position_offset",
    "probe_ids",
    "still",
    "transformer_of",
]

_STOCKS = ("sdpa", "eager")
"""Implementations that a packing model may have come with; each has a registered name of its own."""

REFUSALS = (ModelError, TypeError, ValueError, RuntimeError, IndexError, AttributeError)
"""How models refuse a pack under a probe: an unknown argument, a shape, a layer without boundaries. All mean "pad"."""


class Memory(Protocol):
    """What attends in place of packed attention while a text is generated: it keeps keys and values by layer."""

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        scaling: float,
        causal: bool,
        window: int | None,
        softcap: float | None,
        sinks: Tensor | None,
    ) -> Tensor:
        """[T, Hq, Dv] of query [T, Hq, D], key [T, Hk, D] and value [T, Hk, Dv]; layers count from 0 in a pass."""
        ...


@dataclass
class _Call:
    """One packed forward pass: how many attention layers it reached, and the memory they go to, if any."""

    layers: int = 0
    memory: Memory | None = None


_call: ContextVar[_Call | None] = ContextVar("packed_call", default=None)
# Correctness never rests on this variable: boundaries are arguments, so that recomputation in checkpointing has them.
# It only spares the T x T mask that nobody would read, and turns a layer without boundaries into an error.


@dataclass(frozen=True)
class Heads:
    """How many heads of queries and of keys an attention layer has, and how wide keys and values are."""

    queries: int
    keys: int
    key_width: int
    value_width: int


_reached: ContextVar[dict[nn.Module, Heads] | None] = ContextVar("reached", default=None)


@contextmanager
def packed_call(memory: Memory | None = None) -> Iterator[_Call]:
    """Around a forward pass that hands boundaries to the model; with a memory, one without gradients that generates."""
    call = _Call(memory=memory)
    token = _call.set(call)
    try:
        yield call
    finally:
        _call.reset(token)


def _attention_over(stock: str) -> Callable[..., tuple[Tensor, Tensor | None]]:
    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        reached = _reached.get()
        if reached is not None:
            reached[module] = Heads(query.shape[1], key.shape[1], key.shape[-1], value.shape[-1])
        output, weights = among_tokens(module, query, key, value, attention_mask, **options)
        prefix: Any = getattr(module, "prefix", None)
        return output if prefix is None else output + prefix(query, options.get("scaling")), weights

    def among_tokens(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        starts = options.get("cu_seq_lens_q")
        if starts is not None:
            return _attend_packed(module, query, key, value, starts, options), None
        if _call.get() is not None:
            raise ModelError(
                f"{type(module).__name__} was called without the boundaries of its packed sequences",
                expected="the keyword argument cu_seq_lens_q in every attention layer",
                remedy="this model must be padded",
            )
        if stock == "eager":
            function = sys.modules[type(module).__module__].eager_attention_forward
        else:
            function = ALL_ATTENTION_FUNCTIONS[stock]
        result: tuple[Tensor, Tensor | None] = function(module, query, key, value, attention_mask, **options)
        return result

    return attend


def _attend_packed(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, starts: Tensor, options: Mapping[str, Any]
) -> Tensor:
    """[1, T, H, Dv] from transformers' [1, H, T, D]."""
    if query.shape[0] != 1 or query.shape[2] != key.shape[2]:
        raise ModelError(
            f"{type(module).__name__} was given {query.shape[0]} rows of {query.shape[2]} tokens, {key.shape[2]} keys",
            expected="one packed row whose queries and keys are the same tokens, no cache",
        )
    if options.get("position_bias") is not None:
        raise ModelError(f"{type(module).__name__} adds a position bias, which packed attention has not")
    causal = options.get("is_causal")
    scaling = options.get("scaling")
    call = _call.get()
    if call is not None:
        call.layers += 1
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    # Models let few keywords through to attention; of those of transformers' own kernels, this one is free here.
    shared: Attended | None = options.get("cu_seq_lens_k")
    rule: dict[str, Any] = {
        "scaling": query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        "causal": bool(getattr(module, "is_causal", True)) if causal is None else bool(causal),
        "window": options.get("sliding_window"),
        "softcap": options.get("softcap"),
        "sinks": options.get("s_aux"),
    }
    if call is not None and call.memory is not None:
        return call.memory.attend(call.layers - 1, q, k, v, **rule).unsqueeze(0)
    dropout = float(options.get("dropout") or 0.0) if module.training else 0.0
    if shared is None:
        return packed_attention(q, k, v, starts, **rule, dropout=dropout).unsqueeze(0)
    rule |= {"dropout": dropout, "branches": shared.branches}
    if shared.places is None:
        return packed_attention(q, k, v, starts, **rule).unsqueeze(0)
    # Some branches attend as sequences of their own, behind a copy of what they share; of the copies the first stays.
    q, k, v = (x.index_select(0, shared.places) for x in (q, k, v))
    output = packed_attention(q, k, v, starts, **rule)
    return output.index_select(0, _first_places(shared.places)).unsqueeze(0)


def _first_places(places: Tensor) -> Tensor:
    """[T] where each token of the pack comes first among `places` [U]; tokens come first in their order."""
    before = torch.cat([places.new_full((1,), -1), places.cummax(0).values[:-1]])
    return (places > before).nonzero()[:, 0]


def _mask_over(stock: str) -> Callable[..., Tensor | None]:
    def mask(*arguments: Any, **options: Any) -> Tensor | None:
        if _call.get() is not None:
            return None
        made: Tensor | None = ALL_MASK_ATTENTION_FUNCTIONS[stock](*arguments, **options)
        return made

    return mask


for _stock in _STOCKS:
    AttentionInterface.register(f"luthier_{_stock}", _attention_over(_stock))
    AttentionMaskInterface.register(f"luthier_{_stock}", _mask_over(_stock))


def attention_layers(model: nn.Module) -> dict[nn.Module, Heads]:
    """The attention layers that a short text reaches through the interface, in order.

    Errors: ModelError where it reaches none: models that must be padded have attention of their own.
    """
    inner = transformer_of(model)
    pad = inner.config.get_text_config().pad_token_id or 0
    reached: dict[nn.Module, Heads] = {}
    if position_offset(inner, pad) is not None:
        token = _reached.set(reached)
        try:
            with still(inner):
                _hidden(inner, probe_ids(inner, pad)[0])
        finally:
            _reached.reset(token)
    if not reached:
        raise ModelError(
            f"the attention of {type(inner).__name__} cannot be reached: it must be padded",
            expected="a model whose sequences can be packed",
            remedy="use lora, which goes with any model",
        )
    return reached


def transformer_of(model: nn.Module) -> PreTrainedModel:
    """The transformers model itself, out of PEFT's wrapper; its layers stay adapted."""
    inner: Any = model
    if not isinstance(inner, PreTrainedModel) and hasattr(inner, "get_base_model"):
        if getattr(getattr(inner, "active_peft_config", None), "is_prompt_learning", False):
            raise ModelError(
                "prompt tuning adds tokens before every sequence, which no packed or padded batch has room for",
                remedy="use an adaptation of the weights, such as lora",
            )
        inner = inner.get_base_model()
    if not isinstance(inner, PreTrainedModel):
        raise ModelError(f"{type(model).__name__} is no transformers model", expected="a PreTrainedModel")
    return inner


def backbone_of(model: PreTrainedModel) -> nn.Module:
    """The model below its head, which gives hidden states; the model itself where it has no head."""
    backbone: nn.Module = model.base_model
    return backbone


def hidden_states(model: PreTrainedModel, **inputs: Tensor) -> Tensor:
    """[rows, L, H] below the head. Keeps no cache: one would crop what a sliding window no longer needs."""
    backbone = backbone_of(model)
    options = {"use_cache": False} if "use_cache" in signature(backbone.forward).parameters else {}
    output: Tensor = backbone(**inputs, **options).last_hidden_state
    return output


@contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients; every module's own mode is restored (a frozen part may be in eval for good)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


_offsets: WeakKeyDictionary[nn.Module, int | None] = WeakKeyDictionary()


def position_offset(model: nn.Module, pad: int) -> int | None:
    """What the model adds to positions that count from 0 (RoBERTa: pad + 1), or None where it cannot be packed.

    Measured once per loaded model, never looked up. A number leaves the packed attention set on the model; None leaves
    the model as it was, and it must be padded.
    """
    inner = transformer_of(model)
    known = inner in _offsets and (_offsets[inner] is None or inner.config._attn_implementation.startswith("luthier_"))
    if not known:
        _offsets[inner] = _probe(inner, pad)
    return _offsets[inner]


def _probe(model: PreTrainedModel, pad: int) -> int | None:
    stock = model.config._attn_implementation
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    # What a short probe cannot see: kinds of layers with a reach of their own, and frequencies that turn with length.
    if not kinds <= {"full_attention", "sliding_attention"} or getattr(config, "attention_chunk_size", None):
        return None
    if frequency_limit(config) is not None:
        return None
    stock = stock.removeprefix("luthier_")
    if stock not in _STOCKS or config.is_encoder_decoder or not type(model)._can_set_attn_implementation():
        return None
    found = None
    with still(model):
        model.set_attn_implementation(stock)
        first, other, second = probe_ids(model, pad)
        wanted = _hidden(model, second)
        model.set_attn_implementation(f"luthier_{stock}")
        for offset in (0, (config.pad_token_id or 0) + 1):
            if _isolates(model, (first, other, second), wanted, offset):
                found = offset
                break
        if found is None:
            model.set_attn_implementation(stock)
    return found


_looks_back: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def looks_back(model: nn.Module, pad: int) -> bool:
    """Whether nothing that follows a token changes its state, so that texts that begin alike can share their beginning.

    Measured once per loaded model: an encoder sees both sides, whatever its configuration says.
    """
    inner = transformer_of(model)
    if inner not in _looks_back:
        ids = probe_ids(inner, pad)[2]
        with still(inner):
            whole, part = _hidden(inner, ids), _hidden(inner, ids[:5])
        reduced = next(inner.parameters()).dtype in (torch.bfloat16, torch.float16)
        near = (5e-2 if reduced else 1e-4) * float(part.norm())
        _looks_back[inner] = float((whole[:5] - part).norm()) <= near
    return _looks_back[inner]


def probe_ids(model: PreTrainedModel, pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """Three short sequences (the first two of one length) of ordinary tokens: none is the padding or a special one."""
    config = model.config.get_text_config()
    special = {pad} | {
        value for name in ("pad", "bos", "eos", "cls", "sep") for value in _ids(config, f"{name}_token_id")
    }
    usual = [token for token in range(min(config.vocab_size, 64)) if token not in special]
    device = next(model.parameters()).device
    numbers = torch.tensor(usual)[torch.arange(29) * 7 % len(usual)].to(device)
    return numbers[:7], numbers[7:14], numbers[14:25]


def _ids(config: Any, name: str) -> list[int]:
    value = getattr(config, name, None)
    return [] if value is None else [value] if isinstance(value, int) else list(value)


def _hidden(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """[L, H] of one sequence alone, as the model itself computes it."""
    output: Tensor = backbone_of(model)(
        input_ids=ids[None], attention_mask=torch.ones_like(ids)[None]
    ).last_hidden_state
    return output[0].float()


def _hidden_packed(model: PreTrainedModel, sequences: tuple[Tensor, ...], offset: int) -> list[Tensor] | None:
    """[L, H] of each sequence in a pack, or None where no attention layer was reached."""
    lengths = [len(ids) for ids in sequences]
    ids = torch.cat(sequences)
    positions = torch.cat([torch.arange(length) for length in lengths]).to(ids.device) + offset
    starts = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)
    with packed_call() as call:
        hidden = hidden_states(model, input_ids=ids[None], position_ids=positions[None], cu_seq_lens_q=starts)[0]
    return list(torch.split(hidden.float(), lengths)) if call.layers else None


def _isolates(model: PreTrainedModel, probe: tuple[Tensor, Tensor, Tensor], wanted: Tensor, offset: int) -> bool:
    """Sequences in a pack do not feel each other, and come out as the model's own attention has them."""
    first, other, second = probe
    try:
        layouts = [
            _hidden_packed(model, layout, offset)
            for layout in ((first, second), (other, second), (second, first), (second, other))
        ]
    except REFUSALS:
        return False
    if any(layout is None for layout in layouts):
        return False
    after, after_other, before, before_other = (
        layout[at] for layout, at in zip(layouts, (1, 1, 0, 0), strict=True) if layout is not None
    )
    size = wanted.abs().max()
    # Equal bits, but for the order of sums in mixtures of experts; a leak shows at 7e-4 and above.
    if max((after - after_other).abs().max(), (before - before_other).abs().max()) > 1e-6 * size:
        return False
    reduced = next(model.parameters()).dtype in (torch.bfloat16, torch.float16)
    tolerance = 5e-2 if reduced else 1e-4
    return all(float((found - wanted).norm()) <= tolerance * float(wanted.norm()) for found in (after, before))
