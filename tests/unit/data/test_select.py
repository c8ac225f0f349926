"""dsir, k_center and el2n: which rows stay, and with what words the others leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luthier.core.component import build
from luthier.core.contracts import StepContext
from luthier.core.errors import DataError
from luthier.core.example import Example, Origin
from luthier.data.ledger import Entry, Ledger
from luthier.data.vectors import vectors_of

WOOD = ("spruce", "maple", "ebony", "willow", "boxwood", "poplar", "bow", "peg")
SEA = ("ship", "mast", "harbor", "tide", "anchor", "gull", "storm", "sailor")


def sentence(words: tuple[str, ...], number: int) -> str:
    draw = np.random.default_rng([number, len(words[0])])
    return " ".join(draw.choice(words, 5).tolist())


def rows(count: int = 40) -> list[Example]:
    """Half about wood, half about the sea, in turn."""
    return [
        Example(f"r{n}", {"text": sentence((WOOD, SEA)[n % 2], n)}, Origin("f", n + 1), ("wood", "sea")[n % 2])
        for n in range(count)
    ]


def run(step: Any, examples: list[Example], seed: int = 1) -> tuple[list[Example], list[Entry], dict[str, Any]]:
    ledger = Ledger()
    component = build("steps", step)
    context = StepContext("train", seed, ledger.page("train", component.component_name()))
    kept = list(component.run(iter(examples), context))
    json.dumps(context.facts, allow_nan=False)
    return kept, list(ledger.entries), context.facts


@pytest.fixture
def target(tmp_path: Path) -> str:
    file = tmp_path / "target.jsonl"
    file.write_text("".join(json.dumps({"text": sentence(SEA, n)}) + "\n" for n in range(1000, 1030)), encoding="utf-8")
    return str(file)


def test_dsir_keeps_what_is_like_the_target(target: str) -> None:
    kept, told, facts = run({"dsir": {"target": target, "keep": 0.4}}, rows())
    assert len(kept) == 16
    assert {row.target for row in kept} == {"sea"}
    assert {entry.kind for entry in told} == {"not drawn by its likeness to the target"}
    assert facts["target rows"] == 30
    assert facts["log weight of rows that stay"]["median"] > 0 > facts["log weight of all rows"]["smallest"]


def test_dsir_draws_and_does_not_only_rank(target: str) -> None:
    step = {"dsir": {"target": target, "keep": 5}}
    chosen = {tuple(row.id for row in run(step, rows(), seed)[0]) for seed in range(5)}
    assert len(chosen) > 1
    assert run(step, rows(), 3) == run(step, rows(), 3)


def test_the_target_is_an_input_of_the_run(target: str) -> None:
    assert list(build("steps", {"dsir": {"target": target}}).outside()) == [target]


def test_k_center_keeps_the_rare_row_of_a_crowd() -> None:
    crowd = [Example(f"r{n}", {"text": sentence(WOOD, n)}, Origin("f", n + 1)) for n in range(30)]
    given = [*crowd[:20], Example("rare", {"text": "seven ships sailed"}, Origin("f", 99)), *crowd[20:]]
    kept, told, facts = run({"k_center": {"keep": 4}}, given)
    assert len(kept) == 4
    assert "rare" in {row.id for row in kept}
    assert len(told) == 27
    assert facts["distance of rows that leave"]["largest"] == facts["farthest row from those that stay"]


def test_a_row_that_leaves_says_how_near_a_row_that_stays_is() -> None:
    given = rows()
    kept, told, _ = run({"k_center": {"keep": 0.5}}, given)
    vectors = vectors_of(given, len(given), None)
    stays = {row.id for row in kept}
    here = vectors[[row.id in stays for row in given]]
    for entry in told:
        own = vectors[[row.id for row in given].index(entry.id)]
        nearest = float(np.linalg.norm(here - own, axis=1).min())
        assert float(entry.reason.partition(": ")[2]) == pytest.approx(nearest, abs=1e-3)


def test_el2n_keeps_the_hard_rows_or_the_easy_ones() -> None:
    given = [*rows(80), Example("wrong", {"text": sentence(SEA, 5)}, Origin("f", 99), "wood")]
    paper, told, facts = run({"el2n": {"keep": 10, "skip": 0}}, given)
    assert "wrong" in {row.id for row in paper}
    assert len(told) == 71
    assert facts["EL2N of rows that stay"]["smallest"] >= facts["EL2N of all rows"]["median"]
    easy, _, _ = run({"el2n": {"keep": 10, "prefer": "easy"}}, given)
    assert not {row.id for row in easy} & {row.id for row in paper}
    # What the classifier gets wrong leaves first, whatever share that is, or the share that is named.
    for options in ({}, {"skip": 0.02}):
        kept, _, facts = run({"el2n": {"keep": 10, **options}}, given)
        assert "wrong" not in {row.id for row in kept}
        assert facts["EL2N of rows that stay"]["median"] > facts["EL2N of all rows"]["median"]
    assert facts["share got right"] == pytest.approx(80 / 81, abs=1e-5)
    assert len(run({"el2n": {"keep": 81}}, given)[0]) == 81


def test_el2n_needs_classes() -> None:
    with pytest.raises(DataError, match="no row has a label"):
        run("el2n", [Example("r", {"text": "a"}, Origin("f", 1))])


@pytest.mark.parametrize(("keep", "count"), [(0.25, 10), (1, 40), (1.5, 2), (25, 25), (1000, 40), (0.001, 1)])
def test_keep_is_a_share_or_a_number(keep: float, count: int) -> None:
    assert len(run({"k_center": {"keep": keep}}, rows())[0]) == count


def test_an_encoder_may_give_the_vectors(bert_folder: Path) -> None:
    vectors = vectors_of(rows(6), 6, str(bert_folder))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(6), abs=1e-5)
    assert vectors.shape[1] != 1024
    kept, _, facts = run({"k_center": {"keep": 3, "encoder": str(bert_folder)}}, rows(6))
    assert len(kept) == 3
    assert facts["vectors"] == str(bert_folder)


def test_gradients_choose_what_is_like_the_target(target: str) -> None:
    step = {"gradient_similarity": {"target": target, "targets": 6, "keep": 0.5, "rank": 8}}
    kept, told, facts = run(step, rows(16))
    assert len(kept) == 8
    assert sum(row.target == "sea" for row in kept) >= 7
    assert {entry.kind for entry in told} == {"not among the rows chosen by gradient"}
    assert facts["cosine of rows that stay"]["smallest"] >= facts["cosine of all rows"]["median"]
    assert facts["target rows"] == 6
