"""Rows on disk, worked on by several processes, come out as rows in memory do; what is finished is not done again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from luthier.core.contracts import Step, StepContext
from luthier.core.errors import DataError, MachineError
from luthier.core.example import Example
from luthier.core.recipe import Data
from luthier.data import shelf
from luthier.data.pool import run_jobs
from luthier.data.prepare import load, prepare, save
from luthier.data.shelf import Disk, added, runs
from luthier.data.store import Stored

WORDS = ["violin", "bow", "bridge", "peg", "string", "scroll", "varnish", "spruce", "maple", "glue"]


@pytest.fixture
def rows(tmp_path: Path) -> str:
    """200 rows: copies, near copies, markup and empty ones among them."""
    values = []
    for number in range(200):
        words = [WORDS[(number * step + step) % 10] for step in range(1, 12)]
        text = " ".join(words) if number % 9 else f"<b>{words[0]}</b> &amp; {words[1]} {number}"
        values.append({"text": " " if number % 50 == 49 else text, "label": str(number % 3)})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return str(path)


class Counting(Step):
    """Counts rows, in a step that is no file of the room."""

    scope: ClassVar[Literal["row", "corpus"]] = "row"

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        for example in examples:
            context.facts["rows"] = context.facts.get("rows", 0) + 1
            yield example


@pytest.mark.parametrize("steps", [("clean", "deduplicate", "clean"), (Counting(), "clean", "deduplicate")])
def test_disk_and_memory_give_the_same(rows: str, tmp_path: Path, steps: tuple[object, ...]) -> None:
    data = Data(train=rows, test=0.2, steps=steps, bad_rows="quarantine")
    held = prepare(data, 3)
    stored = prepare(data, 3, Disk(tmp_path / "work", processes=2, shard=30))
    assert {name: list(some) for name, some in stored.splits.items()} == held.splits
    assert list(stored.ledger.entries) == list(held.ledger.entries)
    assert stored.summary == held.summary
    assert len(held.ledger.entries) > 20
    save(held, tmp_path / "one")
    save(stored, tmp_path / "two")
    for name in ("train.parquet", "test.parquet", "ledger.parquet", "summary.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert load(tmp_path / "two").summary == held.summary


def test_a_shard_that_is_finished_is_not_done_again(rows: str, tmp_path: Path) -> None:
    data = Data(train=rows, steps=("clean",), bad_rows="quarantine")
    first = prepare(data, 3, Disk(tmp_path / "work", processes=1, shard=50))
    done = sorted((tmp_path / "work").glob("00-train-*.json"))
    assert len(done) == 4
    done[2].unlink()
    marked = json.loads(done[0].read_text())
    done[0].write_text(json.dumps({**marked, "facts": [{"from": "before"}]}))
    again = prepare(data, 3, Disk(tmp_path / "work", processes=1, shard=50))
    assert list(again.splits["train"]) == list(first.splits["train"])
    assert again.facts == [{"step": "clean", "split": "train", "facts": {"from": "before"}}]
    assert done[2].is_file()


def test_what_a_process_refuses_is_told_as_ours(tmp_path: Path) -> None:
    job = {"source": str(tmp_path / "no.parquet"), "into": str(tmp_path / "x"), "steps": ["clean"], "split": "train"}
    with pytest.raises(DataError, match=r"no\.parquet: the prepared data cannot be read"):
        run_jobs("luthier.data.shard", [{**job, "seed": 1}], 2)


def test_a_process_that_ends_without_a_word_is_told(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="ended with status 1 before its work was done"):
        run_jobs("luthier.data.no_such_module", [{}, {}], 2)


def test_row_steps_go_together_and_others_alone() -> None:
    steps = Data(train="rows", steps=("clean", "clean", "deduplicate", "deduplicate", "clean")).steps
    found = [[step.component_name() for step in run] for run in runs([s for s in steps if isinstance(s, Step)])]
    assert found == [["clean", "clean"], ["deduplicate"], ["deduplicate"], ["clean"]]


def test_facts_of_shards_add_up() -> None:
    first = {"rows": 2, "kinds": {"card": 1}, "seen": ["a"], "by": "rule", "on": True}
    second = {"rows": 3, "kinds": {"card": 1, "mail": 4}, "seen": ["b"], "by": "rule", "on": True}
    total = {"rows": 5, "kinds": {"card": 2, "mail": 4}, "seen": ["a", "b"], "by": "rule", "on": True}
    assert added([first, {}, second]) == total


def test_stored_rows_are_a_sequence(rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = list(prepare(Data(train=rows, bad_rows="quarantine"), 1).splits["train"])
    monkeypatch.setattr(shelf, "SHARD", 40)
    found = Disk(tmp_path / "work", shard=40).keep("x", held)
    assert isinstance(found, Stored)
    assert len(found.files) == 5
    assert (len(found), found[0], found[-1], found[77]) == (len(held), held[0], held[-1], held[77])
    assert found[38:43] == held[38:43]
    assert list(found) == held
    with pytest.raises(IndexError):
        found[len(held)]


def test_an_empty_split_on_disk_names_its_step(rows: str, tmp_path: Path) -> None:
    Path(rows).write_text('{"text": "<b></b>", "label": "a"}\n{"text": "<i></i>", "label": "b"}\n')
    with pytest.raises(DataError, match="the step 'clean' left train without a row: it had 2, dropped were 2 empty"):
        prepare(Data(train=rows, steps=("clean",)), 1, Disk(tmp_path / "work", processes=1))
