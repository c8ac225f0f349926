"""Gradient vectors of rows: those of whole gradients projected, of a fresh LoRA, and as many rows as there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from luthier.core.contracts import Row
from luthier.models.gradients import Gradients
from luthier.models.load import load_model


def row(seed: int, length: int = 9) -> Row:
    draw = np.random.default_rng(seed)
    return Row(str(seed), draw.integers(5, 90, length), np.arange(length) > 3)


def whole(folder: Path, rows: list[Row]) -> dict[str, torch.Tensor]:
    """Gradients of the mean loss over supervised tokens, by autograd."""
    model = load_model(str(folder), "causal_lm", dtype=torch.float32).model
    total, count = torch.zeros(()), 0
    for one in rows:
        ids, learned = torch.from_numpy(one.ids), torch.from_numpy(one.supervised[1:])
        chances = model(input_ids=ids[None]).logits[0, :-1].log_softmax(-1)
        total = total - chances[learned, ids[1:][learned]].sum()
        count += int(learned.sum())
    (total / count).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("rows", [[row(1)], [row(1), row(2, 6)]], ids=["one", "two"])
def test_a_vector_is_the_projection_of_the_whole_gradient(llama_folder: Path, rows: list[Row]) -> None:
    gradients = Gradients(load_model(str(llama_folder), "causal_lm", dtype=torch.float32).model, rank=4, seed=3)
    expected = whole(llama_folder, rows)
    pieces = [
        (second.T @ expected[f"{name}.weight"] @ first).flatten()
        for name, (first, second) in gradients.projections.items()
    ]
    assert gradients.of([rows])[0] == pytest.approx(torch.cat(pieces).numpy(), rel=1e-3, abs=1e-6)
    assert not any("lm_head" in name for name in gradients.projections)


def test_cosines_of_vectors_are_those_of_gradients(llama_folder: Path) -> None:
    gradients = Gradients(load_model(str(llama_folder), "causal_lm", dtype=torch.float32).model, rank=16, seed=3)
    rows = [row(seed) for seed in range(6)]
    short = gradients.of([[one] for one in rows])
    layers = [f"{name}.weight" for name in gradients.layers]
    full = []
    for one in rows:
        found = whole(llama_folder, [one])
        full.append(torch.cat([found[name].flatten() for name in layers]).numpy())
    cosines = [np.corrcoef(np.stack(some))[np.triu_indices(6, 1)] for some in (short, full)]
    assert np.abs(cosines[0] - cosines[1]).mean() < 0.06


def test_rows_do_not_change_each_other(llama_folder: Path) -> None:
    """Sequences of different lengths in one pass, rows of several sequences and rows without a learned token."""
    gradients = Gradients(load_model(str(llama_folder), "causal_lm", dtype=torch.float32).model, rank=4)
    nothing = Row("a", np.arange(5, 10), np.zeros(5, bool))
    rows = [[row(1)], [], [row(2, 6), row(3, 12)], [nothing], [row(4, 5), nothing]]
    together = gradients.of(rows)
    assert together == pytest.approx(np.concatenate([gradients.of([one]) for one in rows]), rel=1e-3, abs=1e-6)
    assert together.any(axis=1).tolist() == [True, False, True, False, True]
