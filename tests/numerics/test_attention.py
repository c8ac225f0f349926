"""Packed attention against torch's own attention and a plain float64 formula, forward and backward."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from luthier.functional import attention, pack_plan
from luthier.functional.attention import packed_attention

LENGTHS = (5, 1, 3, 5, 9)


def inputs(
    heads: int, keys: int, lengths: tuple[int, ...] = LENGTHS, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = sum(lengths)
    shapes = [(tokens, heads, 8), (tokens, keys, 8), (tokens, keys, 6), (heads,)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


def bounds(lengths: tuple[int, ...] = LENGTHS) -> Tensor:
    return torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)


def plain(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, kept: Tensor | None = None, **options: object
) -> Tensor:
    """The formula over one dense [T, T] matrix with a block mask, each head by itself; kept [Hq, T, T]: of dropout."""
    tokens, group = len(query), query.shape[1] // key.shape[1]
    owner = torch.searchsorted(starts[1:].long(), torch.arange(tokens), right=True)
    distance = torch.arange(tokens)[:, None] - torch.arange(tokens)
    seen = owner[:, None] == owner
    if options["causal"]:
        seen = seen & (distance >= 0)
    if options.get("window") is not None:
        seen = seen & (distance.abs() < options["window"])
    outputs = []
    for head in range(query.shape[1]):
        scores = query[:, head] @ key[:, head // group].T * options["scaling"]
        if options.get("softcap") is not None:
            scores = options["softcap"] * torch.tanh(scores / options["softcap"])
        scores = scores.masked_fill(~seen, float("-inf"))
        if options.get("sinks") is not None:
            scores = torch.cat([scores, options["sinks"][head].expand(tokens, 1)], dim=1)
        weights = torch.softmax(scores, dim=-1)[:, :tokens]
        outputs.append((weights if kept is None else weights * kept[head]) @ value[:, head // group])
    return torch.stack(outputs, dim=1)


def gradients(output: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = torch.autograd.grad((output * weights.to(output.dtype)).sum(), tensors, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, tensors, strict=True)]


@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("extra", ["nothing", "softcap", "sinks", "both"])
@pytest.mark.parametrize("block", [2, 256])
def test_equals_the_formula_in_float64(
    heads: tuple[int, int],
    causal: bool,
    window: int | None,
    extra: str,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr(pack_plan, "BLOCK", block)
    pack_plan.plan_of.cache_clear()
    request.addfinalizer(pack_plan.plan_of.cache_clear)
    query, key, value, sinks = tensors = inputs(*heads)
    options = {
        "scaling": 0.3,
        "causal": causal,
        "window": window,
        "softcap": 2.0 if extra in ("softcap", "both") else None,
        "sinks": sinks if extra in ("sinks", "both") else None,
    }
    found = packed_attention(query, key, value, bounds(), **options)
    wanted = plain(query, key, value, bounds(), **options)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)
    for ours, reference in zip(gradients(found, tensors), gradients(wanted, tensors), strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-13)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 2, 17, 30])
@pytest.mark.parametrize("extra", [False, True])
def test_sequences_of_about_one_length_share_a_product(causal: bool, window: int | None, extra: bool) -> None:
    lengths = (20, 37, 33, 35, 18, 40, 39, 1)
    query, key, value, sinks = tensors = inputs(4, 2, lengths)
    assert len(pack_plan.plan_of(tuple(bounds(lengths).tolist()), causal, None, query.device).bunches) == 3
    options = {"scaling": 0.3, "causal": causal, "window": window, "softcap": 2.0 if extra else None}
    options["sinks"] = sinks if extra else None
    found = packed_attention(query, key, value, bounds(lengths), **options)
    wanted = plain(query, key, value, bounds(lengths), **options)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)
    for ours, reference in zip(gradients(found, tensors), gradients(wanted, tensors), strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)


BRANCHING = ((4, (3, 2, 3)), (0, ()), (2, ()), (21, (5, 1, 9)), (0, (4, 4)))
"""What each sequence's branches share, and their lengths."""


@pytest.mark.parametrize("window", [None, 3, 33])
@pytest.mark.parametrize("extra", ["nothing", "softcap", "sinks"])
@pytest.mark.parametrize("block", [2, 7, 256])
def test_branches_see_what_they_share_and_themselves(
    window: int | None, extra: str, block: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """As plain sequences, each behind a copy of what is shared, whose gradients add up."""
    monkeypatch.setattr(pack_plan, "BLOCK", block)
    pack_plan.plan_of.cache_clear()
    request.addfinalizer(pack_plan.plan_of.cache_clear)
    lengths = tuple(shared + sum(branches) for shared, branches in BRANCHING)
    query, key, value, sinks = tensors = inputs(4, 2, lengths)
    options = {"scaling": 0.3, "causal": True, "window": window, "softcap": 2.0 if extra == "softcap" else None}
    options["sinks"] = sinks if extra == "sinks" else None
    given = tuple(branches for _, branches in BRANCHING)
    found = packed_attention(query, key, value, bounds(lengths), **options, branches=given)
    places: list[int] = []
    copies: list[int] = []
    for begin, (shared, branches) in zip(bounds(lengths).tolist(), BRANCHING, strict=False):
        first = begin + shared
        for length in branches or (0,) * (shared > 0):
            places += [*range(begin, begin + shared), *range(first, first + length)]
            copies.append(shared + length)
            first += length
    wanted = plain(query[places], key[places], value[places], bounds(tuple(copies)), **options)
    firsts = [places.index(token) for token in range(sum(lengths))]
    torch.testing.assert_close(found, wanted[firsts], rtol=0, atol=1e-14)
    for ours, theirs in zip(gradients(found, tensors), gradients(wanted[firsts], tensors), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [True, False])
def test_equals_torch_attention_sequence_by_sequence(dtype: torch.dtype, causal: bool) -> None:
    lengths = (700, 40, 40, 3)
    query, key, value, _ = inputs(4, 2, lengths, dtype)
    tensors = [query, key, value]
    found = packed_attention(*tensors, bounds(lengths), scaling=0.25, causal=causal)
    pieces = [
        scaled_dot_product_attention(
            *(x.transpose(0, 1) for x in part), is_causal=causal, scale=0.25, enable_gqa=True
        ).transpose(0, 1)
        for part in zip(*(x.split(lengths) for x in tensors), strict=True)
    ]
    wanted = torch.cat(pieces)
    tolerance = 2e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)
    for ours, reference in zip(gradients(found, tensors), gradients(wanted, tensors), strict=True):
        assert (ours - reference).norm() <= tolerance * reference.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sequence_does_not_feel_its_neighbor(dtype: torch.dtype) -> None:
    lengths = (6, 9)
    query, key, value, _ = inputs(4, 2, lengths, dtype)
    first = packed_attention(query, key, value, bounds(lengths), scaling=0.3, causal=False)
    changed = [torch.cat([x[:6] + 1, x[6:]]) for x in (query, key, value)]
    second = packed_attention(*changed, bounds(lengths), scaling=0.3, causal=False)
    assert torch.equal(first[6:], second[6:])
    assert not torch.equal(first[:6], second[:6])
    leaked = torch.autograd.grad(first[6:].sum(), [query, key, value])
    assert all(not x[:6].any() for x in leaked)


def test_dropout_drops_its_share_and_its_gradient_is_the_forwards() -> None:
    lengths = (40, 40, 30)
    query, key, _, _ = inputs(2, 2, lengths)
    value = torch.ones(sum(lengths), 2, 6, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    kept = packed_attention(query, key, value, bounds(lengths), scaling=0.3, causal=False, dropout=0.4)
    assert not torch.allclose(kept, torch.ones_like(kept), atol=0.05)
    assert kept.mean().item() == pytest.approx(1.0, abs=0.03)

    def again(*tensors: Tensor) -> Tensor:
        torch.manual_seed(3)
        return packed_attention(*tensors, bounds((4, 4, 3)), scaling=0.3, causal=True, dropout=0.4)

    few = [x[:11].detach().requires_grad_() for x in inputs(2, 1)[:3]]
    assert torch.autograd.gradcheck(again, few)


@pytest.mark.parametrize("lengths", [(300, 5, 300), (256, 257)])
@pytest.mark.parametrize("extra", ["nothing", "softcap", "sinks"])
@pytest.mark.parametrize("window", [None, 40])
def test_dropout_of_long_sequences_is_the_formula_with_the_drawn_masks(
    lengths: tuple[int, ...], extra: str, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a block masks are kept and weights are computed again: each mask must meet its own block."""
    drawn: list[Tensor] = []
    make = attention.keep_mask
    monkeypatch.setattr(attention, "keep_mask", lambda *given: drawn.append(make(*given)) or drawn[-1])
    query, key, value, sinks = inputs(4, 2, lengths)
    options = {
        "scaling": 0.3,
        "causal": True,
        "window": window,
        "softcap": 2.0 if extra == "softcap" else None,
        "sinks": sinks if extra == "sinks" else None,
    }
    tensors = [query, key, value] + ([sinks] if extra == "sinks" else [])
    torch.manual_seed(3)
    found = packed_attention(query, key, value, bounds(lengths), dropout=0.25, **options)
    kept = spread(drawn, lengths, window, heads=2, group=2) / 0.75
    wanted = plain(query, key, value, bounds(lengths), kept=kept, **options)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)
    for ours, reference in zip(gradients(found, tensors), gradients(wanted, tensors), strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-9)


def spread(drawn: list[Tensor], lengths: tuple[int, ...], window: int | None, heads: int, group: int) -> Tensor:
    """[Hq, T, T]: each block's mask [B * Hk, G * n, m] at the queries and keys of its sequences."""
    starts, masks = bounds(lengths).tolist(), iter(drawn)
    plan = pack_plan.plan_of(tuple(starts), True, window, torch.device("cpu"))
    whole = torch.zeros(heads * group, starts[-1], starts[-1], dtype=torch.float64)
    for bunch in plan.bunches:
        for low, high, left, right in plan.blocks(bunch):
            mask = next(masks).view(len(bunch.firsts), heads * group, high - low, right - left)
            for own, first, length in zip(mask, bunch.firsts, bunch.lengths, strict=True):
                last = first + min(high, length), first + min(right, length)  # what fills a short one is left out
                to = whole[:, first + low : last[0], first + left : last[1]]
                to.copy_(own[:, : to.shape[1], : to.shape[2]])
    assert next(masks, None) is None
    return whole


def test_autocast_computes_in_its_dtype() -> None:
    query, key, value, _ = inputs(4, 2, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = packed_attention(query, key, value, bounds(), scaling=0.3, causal=True)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert query.grad is not None
    assert query.grad.dtype == torch.float32


def test_a_pack_that_was_laid_out_for_inference_trains() -> None:
    lengths = (5, 7, 3)
    given, starts = inputs(4, 2, lengths), bounds(lengths)
    options = {"scaling": 0.3, "causal": False}
    pack_plan.plan_of.cache_clear()
    with torch.inference_mode():
        before = packed_attention(*given[:3], starts, **options)
    after = packed_attention(*given[:3], starts, **options)
    assert torch.equal(before, after)
    wanted = plain(*given[:3], starts, **options)
    for found, expected in zip(gradients(after, given[:3]), gradients(wanted, given[:3]), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("keys", [32, 64, 96, 160, 224, 256, 384])
def test_a_softmax_in_bfloat16_has_the_bits_of_one_in_float32(keys: int) -> None:
    scores = (torch.randn(12, 50, keys, generator=torch.Generator().manual_seed(keys)) * 8).bfloat16()
    scores[:, :, keys - 9 :] = float("-inf")
    rule = attention._Rule(scaling=1.0, softcap=None, dropout=0.0, group=1)
    assert torch.equal(attention._weights(scores, None, rule), scores.float().softmax(-1).bfloat16())
