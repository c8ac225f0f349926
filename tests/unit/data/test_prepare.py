"""Splits, ledger, stored examples and whole preparations (correctness 25)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from luthier.core.contracts import Step, StepContext
from luthier.core.errors import DataError, MachineError
from luthier.core.example import Example, Origin, Turn
from luthier.core.files import sha256_of, write_atomic
from luthier.core.recipe import Data
from luthier.data.ledger import Ledger
from luthier.data.prepare import load, prepare, save
from luthier.data.split import split
from luthier.data.store import read_examples, write_examples
from luthier.report.changes import flow

TEXT = st.text(st.characters(exclude_categories=("Cs",)))
TURNS = st.lists(
    st.builds(
        Turn,
        st.sampled_from(["user", "assistant"]),
        TEXT,
        st.sampled_from([None, True, False]),
        st.dictionaries(TEXT, st.one_of(TEXT, st.integers(), st.none(), st.lists(TEXT))),
    )
).map(tuple)
EXAMPLES = st.builds(
    Example,
    TEXT,
    st.dictionaries(TEXT, st.one_of(TEXT, TURNS)),
    st.builds(Origin, TEXT, st.integers(0, 2**40), st.lists(TEXT).map(tuple), st.lists(TEXT).map(tuple), st.booleans()),
    st.one_of(st.none(), TEXT, st.floats(allow_nan=False), st.lists(TEXT).map(tuple)),
    st.dictionaries(TEXT, TEXT),
    st.floats(min_value=0, allow_infinity=False),
)


def rows(count: int, tales: int = 10) -> list[Example]:
    return [
        Example(f"f:{n}", {"text": f"row {n}"}, Origin("f", n), groups={"tale": f"t{n % tales}"}) for n in range(count)
    ]


def write(path: Path, *values: object) -> str:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), encoding="utf-8")
    return str(path)


# ---- store and files -------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(examples=st.lists(EXAMPLES, max_size=4))
def test_examples_come_back_equal_and_bytes_are_stable(tmp_path: Path, examples: list[Example]) -> None:
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    write_examples(first, examples)
    write_examples(second, examples)
    assert read_examples(first) == examples
    assert first.read_bytes() == second.read_bytes()


def test_a_torn_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_examples(path, rows(20))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="prepared data cannot be read"):
        read_examples(path)


def test_files_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "folder" / "a.txt"
    write_atomic(path, "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    assert sha256_of(path) == hashlib.sha256("größer\n".encode()).hexdigest()

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError, match="the disk is full"):
        write_atomic(path, "new")
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]
    assert path.read_text(encoding="utf-8") == "größer\n"
    monkeypatch.undo()
    with pytest.raises(MachineError, match="a part of the path is a file"):
        write_atomic(path / "b.txt", "x")


# ---- split -----------------------------------------------------------------------------------------------------------


def data(**values: object) -> Data:
    return Data(train="unused.jsonl", **values)


def test_shares_are_met_as_chance_has_it_and_order_is_kept() -> None:
    parts = split(rows(4000), data(validation=0.1, test=0.2), 1)
    assert list(parts) == ["train", "validation", "test"]
    assert sorted(e.origin.row for part in parts.values() for e in part) == list(range(4000))
    for name, share in (("validation", 0.1), ("test", 0.2)):
        low, high = binom.ppf([1e-6, 1 - 1e-6], 4000, share)
        assert low <= len(parts[name]) <= high
        assert [e.origin.row for e in parts[name]] == sorted(e.origin.row for e in parts[name])


def test_a_row_stays_where_it_is_whatever_comes_or_goes() -> None:
    whole = split(rows(500), data(validation=0.1, test=0.1), 3)
    place = {e.id: name for name, part in whole.items() for e in part}
    fewer = split(rows(500)[::3], data(validation=0.1, test=0.1), 3)
    assert all(place[e.id] == name for name, part in fewer.items() for e in part)
    other = split(rows(500), data(validation=0.1, test=0.1), 4)
    assert {e.id for e in other["test"]} != {e.id for e in whole["test"]}


def test_groups_stay_together() -> None:
    parts = split(rows(600, tales=40), data(validation=0.2, test=0.2, split_by="tale"), 1)
    tales = [{e.groups["tale"] for e in part} for part in parts.values()]
    assert sum(map(len, tales)) == len(set.union(*tales)) == 40


def test_an_empty_split_is_an_error() -> None:
    with pytest.raises(DataError, match=r"a share of 0\.1 of 2 rows left validation without a row"):
        split(rows(2), data(validation=0.1), 1)
    with pytest.raises(DataError, match="of 2 values of tale left"):
        split(rows(100, tales=2), data(validation=0.1, test=0.1, split_by="tale"), 1)
    parts = split(rows(50), data(validation=0.2, test="test.jsonl"), 1)
    assert list(parts) == ["train", "validation"]
    assert len(parts["train"]) + len(parts["validation"]) == 50


# ---- ledger ----------------------------------------------------------------------------------------------------------


def test_the_ledger_counts_by_kind_and_comes_back(tmp_path: Path) -> None:
    ledger = Ledger()
    first, second, third = rows(3)
    ledger.unread("train", "f", 9, "not valid JSON: at column 4", "{")
    ledger.unread("train", "f", 12, "not valid JSON: at column 1", "[")
    page = ledger.page("train", "clean")
    page.drop(first, "near duplicate: 0.91 like f:2", of="f:2")
    page.change(second, third, "whitespace")
    page.note(third, "label conflict", of="f:1")
    assert ledger.counts() == [
        {"split": "train", "step": "read", "reason": "not valid JSON", "action": "unread", "count": 2},
        {"split": "train", "step": "clean", "reason": "near duplicate", "action": "dropped", "count": 1},
        {"split": "train", "step": "clean", "reason": "whitespace", "action": "changed", "count": 1},
        {"split": "train", "step": "clean", "reason": "label conflict", "action": "noted", "count": 1},
    ]
    ledger.write(tmp_path / "ledger.parquet")
    again = Ledger.read(tmp_path / "ledger.parquet")
    assert again == ledger
    assert again.entries[2].dropped() == first
    assert (again.entries[3].before, again.entries[3].after) == ("row 1", "row 2")
    with pytest.raises(ValueError, match="was changed, not dropped"):
        again.entries[3].dropped()


# ---- prepare ---------------------------------------------------------------------------------------------------------


def messy(folder: Path) -> str:
    values: list[object] = [{"text": f"document number {n} ", "tale": n // 4} for n in range(200)]
    values[7:7] = [{"text": "document number 3 ", "tale": 0}]
    path = folder / "messy.jsonl"
    write(path, *values)
    path.write_text(path.read_text(encoding="utf-8") + '{"text": "torn\n{"text": ""}\n', encoding="utf-8")
    return str(path)


def test_prepare_reads_splits_steps_and_accounts_for_every_row(tmp_path: Path) -> None:
    recipe = Data(
        train=messy(tmp_path),
        validation=0.2,
        test=0.1,
        split_by="tale",
        bad_rows="quarantine",
        steps=["clean", {"deduplicate": {"near": False}}],
    )
    prepared = prepare(recipe, 1)
    summary = prepared.summary
    assert (summary["read"], summary["unread"]) == (201, 2)
    gone = sum(count["count"] for count in summary["steps"] if count["action"] == "dropped")
    assert sum(summary["splits"].values()) + gone == summary["read"]
    assert [(bad.row, bad.reason.partition(":")[0]) for bad in prepared.bad] == [
        (202, "not valid JSON"),
        (203, "empty text"),
    ]
    for name, examples in prepared.splits.items():
        kept = {e.id for e in examples} | {
            e.id for e in prepared.ledger.entries if e.action == "dropped" and e.split == name
        }
        raw = split(
            [e for part in prepare(recipe.model_copy(update={"steps": ()}), 1).splits.values() for e in part],
            recipe,
            1,
        )
        assert kept == {e.id for e in raw[name]}  # the steps moved no row to another split


def test_prepare_is_the_same_byte_for_byte_and_loads(tmp_path: Path) -> None:
    recipe = Data(train=messy(tmp_path), validation=0.2, bad_rows="quarantine", steps=["clean", "deduplicate"])
    first = prepare(recipe, 1)
    save(first, tmp_path / "a")
    save(prepare(recipe, 1), tmp_path / "b")
    names = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert names == ["ledger.parquet", "summary.json", "train.parquet", "validation.parquet"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    again = load(tmp_path / "a")
    assert (again.splits, again.ledger, again.summary) == (first.splits, first.ledger, first.summary)
    (tmp_path / "a" / "summary.json").unlink()
    with pytest.raises(DataError, match="no complete prepared data"):
        load(tmp_path / "a")


def test_prepare_refuses_bad_rows_of_all_files_together(tmp_path: Path) -> None:
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text('{"text": "a"}\n{\n', encoding="utf-8")
    test.write_text('{"text": "b"}\n{\n[]\n', encoding="utf-8")
    with pytest.raises(DataError, match="3 rows cannot be read"):
        prepare(Data(train=str(train), test=str(test)), 1)
    assert prepare(Data(train=str(train), test=str(test), bad_rows="quarantine"), 1).summary["unread"] == 3


def test_prepare_refuses_a_file_in_two_splits(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write(path, {"text": "a"})
    copy.write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="the same file is in train and in test"):
        prepare(Data(train=str(path), test=str(path)), 1)
    with pytest.raises(DataError, match="has the same bytes and is in train and in test"):
        prepare(Data(train=str(path), test=str(copy)), 1)


def test_prepare_names_the_step_that_left_nothing(tmp_path: Path) -> None:
    path, test = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write(path, {"text": "a"}, {"text": "b"})
    write(test, {"text": "\u200b"}, {"text": "\ufeff"})
    with pytest.raises(
        DataError, match="the step 'clean' left test without a row: it had 2, dropped were 2 empty text"
    ):
        prepare(Data(train=str(path), test=str(test), steps=["clean"]), 1)


def test_steps_see_the_other_splits_and_keep_groups_of_given_files(tmp_path: Path) -> None:
    train, test = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write(train, {"text": "shared words", "tale": 1}, {"text": "own", "tale": 2})
    write(test, {"text": "Shared  words", "tale": 9})
    prepared = prepare(Data(train=str(train), test=str(test), split_by="tale", steps=["deduplicate"]), 1)
    assert [(e.split, e.reason, e.of) for e in prepared.ledger.entries] == [("train", "exact copy in test", "b:1")]
    assert prepared.splits["test"][0].groups == {"tale": "9"}


def test_banking_is_prepared(data_file) -> None:
    files = {name: str(data_file(f"tasks/banking77/{name}.csv")) for name in ("train", "test")}
    prepared = prepare(Data(**files, validation=0.1, steps=["clean", "deduplicate"]), 1)
    assert prepared.summary["read"] == 13083
    assert len(prepared.splits["train"]) + len(prepared.splits["validation"]) > 9900
    assert any(entry.kind == "exact copy in test" for entry in prepared.ledger.entries)


class Doubling(Step):
    """Adds a copy of each row of train, and counts."""

    scope: ClassVar[Literal["row", "corpus"]] = "row"
    splits: ClassVar[Literal["all", "train"]] = "train"

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        for number, example in enumerate(examples, 1):
            yield example
            origin = replace(example.origin, parents=(example.id,), synthetic=True)
            new = replace(example, id=f"{example.id}+", origin=origin)
            context.ledger.add(new, "a copy")
            context.facts["rows"] = number
            yield new


def test_steps_that_add_rows_leave_what_is_measured_alone_and_their_facts_are_kept(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", *[{"text": f"row {number}"} for number in range(40)])
    prepared = prepare(Data(train=file, test=0.25, steps=(Doubling(),)), seed=1)
    train, test = prepared.splits["train"], prepared.splits["test"]
    assert len(train) + 2 * len(test) == 80
    assert not any(example.origin.synthetic for example in test)
    added = [entry for entry in prepared.ledger.entries if entry.action == "added"]
    assert [(entry.id, entry.of) for entry in added] == [(row.id, row.origin.parents[0]) for row in train[1::2]]
    assert [(entry.before, entry.after) for entry in added] == [(None, row.text()) for row in train[1::2]]
    save(prepared, tmp_path / "out")
    again = load(tmp_path / "out")
    facts = [{"step": Doubling.component_name(), "split": "train", "facts": {"rows": len(train) // 2}}]
    assert prepared.facts == again.facts == again.summary["facts"] == facts
    (flowed,) = flow(prepared.summary)
    assert (flowed.before, flowed.added, flowed.after) == (40, len(train) // 2, len(train) + len(test))
