"""One token over kept keys is the last row of packed attention over the whole sequence."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from luthier.functional.attention import packed_attention
from luthier.functional.cached_attention import cached_attention, hidden_places

LENGTHS = (5, 1, 12)
HEADS, GROUP, WIDE, PLACES = 2, 3, 8, 16


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("sunk", [False, True])
def test_it_is_the_last_row_of_packed_attention(window: int | None, softcap: float | None, sunk: bool) -> None:
    torch.manual_seed(0)
    query = torch.randn(sum(LENGTHS), HEADS * GROUP, WIDE)
    key, value = torch.randn(sum(LENGTHS), HEADS, WIDE), torch.randn(sum(LENGTHS), HEADS, WIDE + 1)
    rule: dict[str, Any] = {"scaling": 0.7, "softcap": softcap, "sinks": torch.randn(HEADS * GROUP) if sunk else None}
    starts = torch.tensor([0, *LENGTHS]).cumsum(0)
    ends = starts[1:] - 1
    wanted = packed_attention(query, key, value, starts, causal=True, window=window, **rule)[ends]
    keys = torch.full((len(LENGTHS), HEADS, PLACES, WIDE), 1e4)  # what lies behind the text must not be seen
    values = torch.full((len(LENGTHS), HEADS, PLACES, WIDE + 1), 1e4)
    for row, length in enumerate(LENGTHS):
        own = slice(int(starts[row]), int(starts[row + 1]))
        keys[row, :, :length], values[row, :, :length] = key[own].transpose(0, 1), value[own].transpose(0, 1)
    hidden = hidden_places(torch.tensor(LENGTHS) - 1, PLACES, HEADS, window)
    folded = query[ends].reshape(-1, GROUP, WIDE)
    found = cached_attention(folded, keys.flatten(0, 1), values.flatten(0, 1), hidden, **rule).view(wanted.shape)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_in_bfloat16_it_is_exact_to_the_rounding_of_its_parts() -> None:
    torch.manual_seed(0)
    query, keys = torch.randn(4, 3, WIDE).bfloat16(), torch.randn(4, PLACES, WIDE).bfloat16()
    values = torch.randn(4, PLACES, WIDE).bfloat16()
    hidden = hidden_places(torch.tensor([3, 15]), PLACES, HEADS, None)
    found = cached_attention(query, keys, values, hidden, scaling=0.3)
    assert found.dtype == torch.bfloat16
    wanted = cached_attention(query.float(), keys.float(), values.float(), hidden, scaling=0.3)
    torch.testing.assert_close(found.float(), wanted, rtol=2e-2, atol=2e-2)
