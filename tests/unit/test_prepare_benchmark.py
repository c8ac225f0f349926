"""The preparation benchmark: its rows are what it promises, and two sides that do different work are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import _texts, prepare
from luthier.core.recipe import Data
from luthier.data.prepare import prepare as prepared


def test_rows_hold_the_promised_shares_of_copies_and_damage(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    _texts.write_rows(file, 3000)
    texts = [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
    assert texts == _texts.texts(3000)
    lengths = [len(text.split()) for text in texts]
    assert 36 < sum(lengths) / 3000 < 44
    assert min(lengths) >= 12
    done = prepared(Data.model_validate({"train": str(file), "steps": ["clean", "deduplicate"]}), 1)
    changed = sum(entry.step == "clean" for entry in done.ledger.entries)
    exact, near = (sum(e.kind == kind for e in done.ledger.entries) for kind in ("exact duplicate", "near duplicate"))
    assert 0.13 < exact / 3000 < 0.17  # a few of the near copies of one original are equal too
    assert 0.06 < near / 3000 < 0.11  # in a short row one other word can be too many
    assert 0.13 < changed / 3000 < 0.25  # damaged rows, copies of them, and copies after a space


def side(seconds: float, memory: int, kept: list[list[Any]], busy: float = 0.8) -> dict[str, Any]:
    figures = {"seconds": seconds, "cpu_seconds": seconds * busy, "peak_bytes": memory, "grown_bytes": memory // 2}
    return {**figures, "rows": 1000, "kept": kept}


def test_lines_worked_out_by_hand() -> None:
    pairs = [
        {"ours": side(2.0, 1_000_000, []), "other": side(8.0, 3_000_000, [])},
        {"ours": side(4.0, 1_000_000, []), "other": side(10.0, 3_000_000, [])},
        {"ours": side(2.0, 1_000_000, []), "other": side(6.0, 3_000_000, [])},
    ]
    processor, clock, memory, grown = prepare.rows_of(1000, pairs)
    assert (clock.ours, clock.other, clock.value, clock.low, clock.high) == (500.0, 125.0, 3.0, 2.5, 4.0)
    assert (processor.ours, processor.value, processor.holds) == (625.0, pytest.approx(3.0), True)
    assert (memory.ours, memory.other, memory.value) == (1.0, 3.0, 3.0)
    assert (grown.ours, grown.other) == (500.0, 1500.0)


def test_the_clock_says_nothing_where_a_run_was_kept_waiting() -> None:
    pairs = [{"ours": side(2.0, 1, []), "other": side(8.0, 3, [], busy=0.5)}]
    assert [row.name for row in prepare.rows_of(1000, pairs) if "rows/s" in row.name] == []


def test_memory_is_bounded_by_what_the_file_grows() -> None:
    def sized(ours: int, other: int, rows: int) -> dict[str, dict[str, Any]]:
        return {
            name: {"peak_bytes": peak, "file_bytes": 10 * rows, "rows": rows}
            for name, peak in (("ours", ours), ("other", other))
        }

    few = [sized(5_000, 8_000, 100), sized(5_000, 8_000, 100), sized(5_000, 8_000, 100)]
    many = [sized(12_200, 36_800, 1_000), sized(14_000, 35_000, 1_000), sized(15_800, 38_600, 1_000)]
    row = prepare.growth_of(few, many)
    assert (row.ours, row.other) == (1.0, 3.2)
    assert (row.value, row.low, row.high, row.holds) == (9.0, 8.8, 9.2, True)
    assert "from 100 to 1,000 rows" in row.name
    assert not prepare.growth_of(few, [sized(95_100, 36_800, 1_000)] * 3).holds


def test_sides_that_do_different_work_are_refused() -> None:
    rows = [[number, "a", 5] for number in range(900)]
    prepare.refuse_unlike({"ours": side(1, 1, rows), "other": side(1, 1, rows[2:])})
    with pytest.raises(SystemExit, match="3 of 1000 rows are kept by one side only"):
        prepare.refuse_unlike({"ours": side(1, 1, rows), "other": side(1, 1, rows[3:])})
    with pytest.raises(SystemExit, match="1 rows differ in text or tokens"):
        prepare.refuse_unlike({"ours": side(1, 1, rows), "other": side(1, 1, [*rows[:-1], [899, "a", 6]])})
