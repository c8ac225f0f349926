"""The pairs of the recipe "preferences" are what their generator says, and what they promise."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import make_preference_data as made  # noqa: E402
from demo_words import CLOSINGS  # noqa: E402

FILE = ROOT / "src/luthier/embedded/data/shop-preferences.jsonl"


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


def test_the_generator_rewrites_the_file_byte_for_byte() -> None:
    assert "".join(line + "\n" for line in made.lines()).encode() == FILE.read_bytes()
    assert FILE.stat().st_size < 300_000


def test_answers_differ_in_their_closing_alone() -> None:
    for row in rows():
        sides = [row[name] for name in ("chosen", "rejected")]
        closings = [next(closing for closing in CLOSINGS.values() if closing in side) for side in sides]
        assert closings.count(CLOSINGS["rush"]) == 1
        assert sides[0].replace(closings[0], "") == sides[1].replace(closings[1], "")


def test_a_pair_in_twenty_is_the_wrong_way_round() -> None:
    wrong = sum(CLOSINGS["rush"] in row["rejected"] for row in rows())
    assert len(rows()) == made.PAIRS
    assert wrong / made.PAIRS == pytest.approx(made.OTHERWISE, abs=0.03)
    assert wrong > 0


def test_length_does_not_tell_the_chosen_answer_alone() -> None:
    """The promise is shorter than one of the other closings and longer than the other."""
    longer = [len(row["chosen"]) > len(row["rejected"]) for row in rows()]
    assert 0.5 < sum(longer) / len(longer) < 0.9
