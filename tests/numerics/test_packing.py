"""Packing rows and summing over them, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from luthier.core.contracts import Row
from luthier.functional.packing import micro_batches, pack, segment_sum, sequence_index


def row(name: str, ids: list[int], marks: list[int], **rest: object) -> Row:
    return Row(name, np.array(ids), np.array(marks, dtype=bool), **rest)  # type: ignore[arg-type]


def test_pack_lays_rows_end_to_end_and_restarts_positions() -> None:
    batch = pack(
        [
            row("a", [5, 6, 7], [0, 1, 1], weight=2.0, groups={"task": "x"}, fields={"label": np.array(1)}),
            row("b", [8], [0], groups={"domain": "y"}, fields={"label": np.array(0)}),
            row("c", [9, 5], [0, 1], fields={"label": np.array(2)}),
        ]
    )
    assert batch.ids.tolist() == [5, 6, 7, 8, 9, 5]
    assert batch.starts.tolist() == [0, 3, 4, 6]
    assert batch.starts.dtype == torch.int32
    assert batch.positions.tolist() == [0, 1, 2, 0, 0, 1]
    assert batch.supervised.tolist() == [False, True, True, False, False, True]
    assert batch.rows == ("a", "b", "c")
    assert batch.weights.tolist() == [2.0, 1.0, 1.0]
    assert batch.fields["label"].tolist() == [1, 0, 2]
    assert batch.groups == {"task": ("x", "", ""), "domain": ("", "y", "")}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([row("a", [5, 6], [1, 1])], "nothing precedes"),
        ([row("a", [], [])], "empty"),
        ([row("a", [5, 6], [0])], "2 ids"),
        ([row("a", [5], [0], fields={"label": np.array(1)}), row("b", [5], [0])], "other fields"),
        ([], "at least one"),
    ],
)
def test_rows_that_no_encoder_may_make_are_refused(wrong: list[Row], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        pack(wrong)


def test_sequence_index_and_segment_sum_by_hand() -> None:
    index = sequence_index(torch.tensor([0, 3, 4, 6], dtype=torch.int32))
    assert index.tolist() == [0, 0, 0, 1, 2, 2]
    values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], requires_grad=True)
    sums = segment_sum(values, index, 4)
    assert sums.tolist() == [7.0, 8.0, 48.0, 0.0]
    sums.backward(torch.tensor([1.0, 10.0, 100.0, 1000.0]))
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 1.0, 1.0, 10.0, 100.0, 100.0]


def test_segment_sum_of_nothing_is_zero_and_attached() -> None:
    values = torch.zeros(0, requires_grad=True)
    sums = segment_sum(values, torch.zeros(0, dtype=torch.int64), 2)
    assert sums.tolist() == [0.0, 0.0]
    sums.sum().backward()
    assert values.grad is not None


def test_segment_sum_repeats_its_bits() -> None:
    values = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    index = torch.randint(0, 7, (5000,), generator=torch.Generator().manual_seed(1))
    first = segment_sum(values, index, 7)
    assert all(torch.equal(first, segment_sum(values, index, 7)) for _ in range(10))


def test_micro_batches_keep_the_order_and_the_budget() -> None:
    lengths = [5, 5, 30, 1, 9, 2]
    assert micro_batches([0, 1, 2, 3, 4, 5], lengths, 10) == [[0, 1], [2], [3, 4], [5]]
    assert micro_batches([2], lengths, 10) == [[2]]
    assert micro_batches([], lengths, 10) == []
    assert micro_batches([5, 3, 0, 1], lengths, 8) == [[5, 3, 0], [1]]
