"""The letters of "few-labels" and "few-shot" are what their generator says: few labels, and none of the demo's."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from luthier.core.component import build
from luthier.core.recipe import Data
from luthier.data.prepare import prepare

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import make_intent_data as made  # noqa: E402

FOLDER = ROOT / "src/luthier/embedded/data"


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def test_the_generator_rewrites_the_files_byte_for_byte() -> None:
    for name, text in made.files().items():
        assert (FOLDER / name).read_bytes() == text.encode("utf-8")


def test_one_letter_of_each_kind_of_work_has_a_label() -> None:
    train, test = rows("shop-intents.jsonl"), rows("shop-intents-test.jsonl")
    known = Counter(row["label"] for row in train if row["label"])
    assert set(known.values()) == {made.LABELED}
    assert sum(row["label"] is None for row in train) == made.UNLABELED
    assert {row["label"] for row in test} == set(known), "every kind of work is measured"
    texts = [row["text"] for row in [*train, *test]]
    assert len(set(texts)) == len(texts)
    demo = (FOLDER / "repair-shop.jsonl").read_text(encoding="utf-8")
    assert not any(json.dumps(text, ensure_ascii=False) in demo for text in texts)


def test_a_few_letters_of_each_kind_are_none_of_the_others() -> None:
    few = rows("shop-intents-few.jsonl")
    assert Counter(row["label"] for row in few) == dict.fromkeys(made.CLASSES, made.FEW)
    others = {row["text"] for name in ("shop-intents.jsonl", "shop-intents-test.jsonl") for row in rows(name)}
    assert len({row["text"] for row in few} - others) == len(few)


def test_they_are_read_as_rows_with_and_without_a_class() -> None:
    data = Data.model_validate(
        {"train": {"path": "embedded:shop-intents", "format": {"labeled": {"unlabeled": True}}}, "bad_rows": "stop"}
    )
    found = prepare(data, 1).splits["train"]
    assert sum(example.target is None for example in found) == made.UNLABELED
    plain = build("formats", "labeled")
    for record in ({"text": "x", "label": None}, {"text": "x", "label": " "}, {"text": "x"}):
        with pytest.raises(ValueError, match="missing label"):
            plain.contents(record)  # type: ignore[attr-defined]
        given = build("formats", {"labeled": {"unlabeled": True}}).contents(record)  # type: ignore[attr-defined]
        assert given == {"parts": {"text": "x"}}
