"""Small data files and recipes for the tests of fits and whole runs: a few seconds from data file to report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from luthier.core.recipe import Recipe

THINGS = ("violin", "viola", "cello", "bow", "bridge", "peg", "string", "scroll")
FEELINGS = ("good", "bad", "odd")


def chat_records(count: int = 48) -> list[dict[str, Any]]:
    """Conversations whose answers repeat a word of the question: learnable in a few steps."""
    found = []
    for number in range(count):
        thing = THINGS[number % len(THINGS)]
        asked = {"role": "user", "content": f"Number {number}: the {thing}?"}
        found.append({"messages": [asked, {"role": "assistant", "content": f"The {thing} is ready."}]})
    return found


def label_records(count: int = 60) -> list[dict[str, Any]]:
    """Texts of three classes, told by one word."""
    return [
        {"text": f"item {number} is {FEELINGS[number % 3]} indeed", "label": FEELINGS[number % 3]}
        for number in range(count)
    ]


def text_records(count: int = 40) -> list[dict[str, Any]]:
    return [
        {"text": f"Night {number}: the {THINGS[number % 8]} sang to the moon, and the moon listened."}
        for number in range(count)
    ]


def write_jsonl(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def lm_recipe(model: Path, data: Path, **changes: Any) -> dict[str, Any]:
    """A chat recipe with LoRA in float32 on the CPU; keywords replace keys of the phase, or of the recipe by name."""
    phase = {
        "name": "sft",
        "objective": "causal_lm",
        "adaptation": {"lora": {"rank": 4}},
        "optimizer": {"adamw": {"lr": 5e-3}},
        "epochs": 2,
        "per_step": {"rows": 8},
        "max_length": 96,
    }
    recipe = {
        "name": "small",
        "model": str(model),
        "data": {"train": str(data), "validation": 0.2, "test": 0.2},
        "phases": [phase],
        "checks": [],
        "decoding": {"max_new_tokens": 6},
        "machine": {"device": "cpu", "dtype": "float32"},
    }
    return _changed(recipe, phase, changes)


def class_recipe(model: Path, data: Path, **changes: Any) -> dict[str, Any]:
    """A classification recipe with full training in float32 on the CPU; keywords as for lm_recipe."""
    recipe = lm_recipe(model, data, **{"objective": "classify", "adaptation": "full"} | changes)
    recipe["phases"][0]["name"] = "intents"
    return recipe


def _changed(recipe: dict[str, Any], phase: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    if "steps" in changes:
        phase.pop("epochs")
    for key, value in changes.items():
        if key in ("data", "machine", "decoding"):
            recipe[key] |= value
        elif key in Recipe.model_fields:
            recipe[key] = value
        else:
            phase[key] = value
    return recipe


def row(name: str, length: int, supervised: int, seed: int, **more: Any) -> Any:
    """An encoded row of random ids whose last `supervised` tokens are targets."""
    from luthier.core.contracts import Row

    draw = np.random.default_rng(seed)
    marks = np.zeros(length, dtype=np.bool_)
    marks[length - supervised :] = supervised > 0
    return Row(name, draw.integers(4, 400, length), marks, **more)


def uneven_rows(count: int = 24) -> list[Any]:
    """Rows of 4 to 20 tokens with 1 to 7 targets."""
    return [row(f"row-{i}", 4 + (7 * i) % 17, 1 + (3 * i) % (3 + i % 5), seed=i) for i in range(count)]
