"""The layout of a pack: what it keeps grows with the pack, not with the square of its longest sequence."""

from __future__ import annotations

import pytest
import torch

from luthier.functional.attention import packed_attention
from luthier.functional.pack_plan import BLOCK, Plan, plan_of

CPU = torch.device("cpu")


def kept_bytes(plan: Plan, heads: int, group: int) -> int:
    """Bytes of all masks that a layer asks for, in bfloat16; parts of one tensor count once."""
    blocks = [(bunch, block) for bunch in plan.bunches for block in plan.blocks(bunch)]
    for _ in range(2):  # the second time all of them are there
        masks = [plan.bias(bunch, block, heads, group, torch.bfloat16) for bunch, block in blocks]
    storages = [mask.untyped_storage() for mask in masks if mask is not None]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def test_masks_of_a_long_causal_sequence_take_no_more_than_its_widest_block() -> None:
    group, length = 2, 12 * BLOCK
    plan_of.cache_clear()
    assert kept_bytes(plan_of((0, length), True, None, CPU), heads=8, group=group) <= BLOCK * group * length * 2


def test_of_a_long_sequence_that_branches_no_bias_is_kept_where_branches_are() -> None:
    """A byte a score of one head there; before them what any causal sequence keeps."""
    group, shared, branches = 4, 12 * BLOCK, (100, 100, 100)
    length = shared + sum(branches)
    plan_of.cache_clear()
    plan = plan_of((0, length), True, None, CPU, (branches,))
    (bunch,) = plan.bunches
    for block in plan.blocks(bunch):
        plan.bias(bunch, block, 8, group, torch.bfloat16)
    held = sum(mask.nbytes for mask in plan._masks.values() if mask is not None)
    widest = shared * BLOCK * group * 2
    assert held <= widest + (length - shared + BLOCK) * length


def test_branches_see_through_a_window_what_stands_near_them() -> None:
    """Neither queries of the shared part nor those of branches are multiplied with keys that the window hides."""
    shared, window, branches = 12 * BLOCK, 32, (20,) * 40
    length = shared + sum(branches)
    plan_of.cache_clear()
    plan = plan_of((0, length), True, window, CPU, (branches,))
    (bunch,) = plan.bunches
    for low, high, left, right in plan.blocks(bunch):
        assert right - left <= high - low + window if high <= shared else left >= min(low, shared) - window


def test_each_causal_block_hides_what_comes_after_its_queries() -> None:
    plan_of.cache_clear()
    plan = plan_of((0, 2 * BLOCK + 5, 3 * BLOCK + 10), True, None, CPU)
    for bunch in plan.bunches:
        for block in reversed(list(plan.blocks(bunch))):  # the widest first: the others are parts of it
            low, high, left, right = block
            bias = plan.bias(bunch, block, 2, 3, torch.float32)
            assert bias is not None
            later = torch.arange(left, right) > torch.arange(low, high)[:, None]
            assert torch.equal(bias == float("-inf"), later.repeat(3, 1))
            assert torch.equal(bias == 0, ~later.repeat(3, 1))


@pytest.mark.parametrize("causal", [True, False])
def test_one_layout_serves_both_half_precisions(causal: bool) -> None:
    starts = torch.tensor([0, 5, 12], dtype=torch.int32)
    plan_of.cache_clear()
    for dtype in (torch.bfloat16, torch.float16):
        x = torch.randn(12, 2, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
        assert packed_attention(x, x, x, starts, scaling=0.3, causal=causal, window=4).dtype == dtype
        assert packed_attention(x, x, x, starts, scaling=0.3, causal=causal).dtype == dtype


def test_a_pack_without_tokens_gives_none() -> None:
    x = torch.randn(0, 2, 8, requires_grad=True)
    found = packed_attention(x, x, x, torch.tensor([0, 0], dtype=torch.int32), scaling=0.3, causal=True)
    assert found.shape == (0, 2, 8)
    found.sum().backward()
    assert x.grad is not None
