"""Changes: differences rebuild both texts, flows add up, examples come from everywhere in a large ledger."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.example import Example, Origin, Turn
from luthier.data.store import write_examples
from luthier.report.changes import difference, examples, flow

TEXT = st.text("ab <>&'\"é.", max_size=60)


@given(TEXT, TEXT)
@settings(max_examples=150, deadline=None)
def test_a_difference_holds_both_texts(before: str, after: str):
    marked = str(difference(before, after))
    old = re.sub("</?del>", "", re.sub("<ins>.*?</ins>", "", marked, flags=re.S))
    new = re.sub("</?ins>", "", re.sub("<del>.*?</del>", "", marked, flags=re.S))
    assert (html.unescape(old), html.unescape(new)) == (before, after)


def test_invisible_characters_are_named():
    assert str(difference("My\u200b cello", "My cello")) == "My<del>[U+200B]</del> cello"
    assert "⏎" in difference("a\n\n\nb", "a\nb")


def test_a_late_difference_is_shown_with_little_before_it():
    marked = difference("word " * 2000 + "old", "word " * 2000 + "new")
    assert len(marked) < 300
    assert "<del>old</del><ins>new</ins>" in marked


def test_flow_by_hand():
    steps = [
        {"split": "train", "step": "clean", "reason": "r", "action": "dropped", "count": 5},
        {"split": "train", "step": "clean", "reason": "s", "action": "changed", "count": 9},
        {"split": "test", "step": "deduplicate", "reason": "t", "action": "dropped", "count": 2},
        {"split": "test", "step": "deduplicate", "reason": "u", "action": "noted", "count": 1},
        {"split": "test", "step": "clean", "reason": "r", "action": "dropped", "count": 1},
    ]
    clean, duplicates = flow({"splits": {"train": 80, "test": 12}, "steps": steps})
    assert (clean.before, clean.dropped, clean.changed, clean.after) == (100, 6, 9, 94)
    assert (duplicates.before, duplicates.dropped, duplicates.noted, duplicates.after) == (94, 2, 1, 92)
    assert [entry["count"] for entry in clean.reasons] == [9, 5, 1]


def ledger(path: Path, rows: list[dict[str, object]]) -> Path:
    empty = {"split": "train", "id": "i", "file": "f.jsonl", "of": None, "after": None}
    pq.write_table(pa.Table.from_pylist([{**empty, **row} for row in rows]), path)
    return path


def test_examples_of_a_large_ledger_find_the_rare_reason(tmp_path: Path):
    rows = [
        {"step": "s", "action": "dropped", "reason": "common", "row": n, "before": f"text {n}"} for n in range(9000)
    ]
    rows[8123] = {"step": "s", "action": "dropped", "reason": "rare", "row": 8123, "before": "the rare <one>"}
    found = examples(ledger(tmp_path / "ledger.parquet", rows))
    assert [change.place for change in found["s", "dropped", "common"]] == [
        f"f.jsonl, row {n} (train)" for n in range(3)
    ]
    (rare,) = found["s", "dropped", "rare"]
    assert rare.body == "the rare &lt;one&gt;"


def test_a_step_with_very_many_reasons_does_not_crowd_the_others_out(tmp_path: Path):
    rows = [{"step": "a", "action": "dropped", "reason": f"{n} letters", "row": n, "before": "x"} for n in range(500)]
    rows.append({"step": "b", "action": "dropped", "reason": "copy", "row": 1, "before": "y"})
    found = examples(ledger(tmp_path / "ledger.parquet", rows))
    assert ("b", "dropped", "copy") in found
    assert len(found) < 30


def test_reasons_are_gathered_by_kind_and_their_details_kept(tmp_path: Path):
    rows = [
        {"step": "read", "action": "unread", "reason": f"not valid JSON: column {n}", "row": n, "before": "{"}
        for n in (3, 8)
    ]
    found = examples(ledger(tmp_path / "ledger.parquet", rows))
    assert {key: [change.detail for change in shown] for key, shown in found.items()} == {
        ("read", "unread", "not valid JSON"): ["column 3", "column 8"]
    }


def test_a_near_copy_is_shown_against_the_row_that_stays(tmp_path: Path):
    stays = Example(
        "a", {"messages": (Turn("user", "My cello buzzes."), Turn("assistant", "Bring it."))}, Origin("f", 1)
    )
    labeled = Example("b", {"text": "lost card"}, Origin("f", 2), target=("card", "lost"))
    write_examples(tmp_path / "train.parquet", [stays])
    write_examples(tmp_path / "test.parquet", [labeled])
    rows = [
        {
            "step": "d",
            "action": "dropped",
            "reason": "near",
            "row": 3,
            "before": "My viola buzzes.\nBring it.",
            "of": "a",
        },
        {"step": "d", "action": "noted", "reason": "near", "row": 4, "before": "lost card\n→ card", "of": "b"},
        {
            "step": "d",
            "action": "dropped",
            "reason": "exact",
            "row": 5,
            "before": "My cello buzzes.\nBring it.",
            "of": "a",
        },
        {"step": "d", "action": "dropped", "reason": "lost", "row": 6, "before": "x", "of": "gone later"},
    ]
    found = examples(ledger(tmp_path / "ledger.parquet", rows))
    assert {key[1:]: str(shown[0].body) for key, shown in found.items()} == {
        ("dropped", "near"): "My <del>viola</del><ins>cello</ins> buzzes.\nBring it.",
        ("noted", "near"): "lost card\n→ card<ins> | lost</ins>",
        ("dropped", "exact"): "My cello buzzes.\nBring it.",
        ("dropped", "lost"): "x",
    }


def test_no_ledger_no_examples(tmp_path: Path):
    assert examples(tmp_path / "ledger.parquet") == {}
