"""Random damage to recipes, gates and overrides: each loads, or what is wrong is told, within a second.

Each property runs with the same examples every time, and as a slow test with many more, which `make fuzz` draws anew.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from elapsed import takes_less_than
from fuzzing import EDITS, KEYS, PLAIN, TEXT, Edits, Property, edited
from hypothesis import strategies as st

from luthier.core.errors import Problem, RecipeError
from luthier.core.gates import Gate, parse
from luthier.core.recipe import Recipe
from luthier.core.recipe_file import apply_overrides, load_recipe

RECIPE: dict[str, Any] = {
    "name": "tales",
    "model": "embedded:nano",
    "data": {
        "train": "rows.jsonl",
        "validation": 0.1,
        "test": 0.1,
        "steps": ["clean", {"deduplicate": {"threshold": 0.8}}],
    },
    "phases": [
        {
            "name": "sft",
            "objective": "causal_lm",
            "adaptation": {"lora": {"rank": 4}},
            "optimizer": {"adamw": {"lr": 2e-4}},
            "schedule": {"cosine": {"warmup": 0.1}},
            "epochs": 2,
            "per_step": {"tokens": 512},
            "penalties": [{"l2_sp": {"weight": 0.1}}],
            "watch": {"patience": 2},
        },
        {"name": "more", "from": "sft", "adaptation": "full", "steps": 5},
    ],
    "checks": ["perplexity", {"text_match": {"limit": 5}}, {"parity": {"rows": 3}}],
    "gates": ["text_match.exact >= base + 0.10", "perplexity.perplexity.high <= 30"],
    "decoding": {"max_new_tokens": 8},
    "seed": [1, 2],
    "machine": {"device": "cpu"},
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


WORDS = st.one_of(
    KEYS,
    TEXT,
    st.sampled_from(
        ["lora", "epochs", "rank", "phases", "name", "data", "train", "0", "-1", "weight", "nano", "on", ""]
    ),
)
VALUES = st.recursive(
    st.one_of(PLAIN, WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
)
CHANGES = st.lists(
    st.tuples(st.sampled_from(places(RECIPE)[1:]), st.sampled_from(["set", "remove", "add", "rename"]), WORDS, VALUES),
    min_size=1,
    max_size=3,
)


def changed(changes: list[tuple[tuple[Any, ...], str, str, Any]]) -> dict[str, Any]:
    recipe: dict[str, Any] = json.loads(json.dumps(RECIPE))
    for path, kind, word, value in changes:
        owner: Any = recipe
        try:
            for key in path[:-1]:
                owner = owner[key]
            old = owner[path[-1]]
            if kind == "set":
                owner[path[-1]] = value
            elif kind == "remove":
                del owner[path[-1]]
            elif kind == "rename" and isinstance(owner, dict):
                owner[word] = owner.pop(path[-1])
            elif isinstance(old, dict):
                old[word] = value
            elif isinstance(old, list):
                old.append(value)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    return recipe


def recipe_or_error(make: Callable[[], Any]) -> None:
    def work() -> None:
        with contextlib.suppress(RecipeError):
            assert isinstance(make(), (Recipe, dict))

    assert takes_less_than(1, work)


def broken_recipes(changes: list[tuple[tuple[Any, ...], str, str, Any]]) -> None:
    """A recipe with changed keys and values loads, or all that is wrong with it is told, within a second."""
    recipe_or_error(lambda: Recipe.of(changed(changes)))


def broken_recipe_files(edits: Edits) -> None:
    """A damaged YAML file likewise."""
    Path("a.yaml").write_bytes(edited(yaml.safe_dump(RECIPE, sort_keys=False).encode(), edits))
    recipe_or_error(lambda: load_recipe("a.yaml"))


PIECES = [
    "text_match",
    ".exact",
    "perplexity",
    ".high",
    ".low",
    "base",
    "tuned",
    ">=",
    "<=",
    "<",
    "==",
    "+",
    "-",
    "*",
    "/",
]
PIECES += ["0.1", "1e400", "nan", "(", ")", " ", "**", "__import__", "lambda", "'x'", "[", "]", ",", "if", ".change"]
GATES = st.one_of(
    TEXT, st.lists(st.sampled_from(PIECES), max_size=10).map(" ".join), st.lists(st.sampled_from(PIECES)).map("".join)
)
OVERRIDES = st.one_of(
    TEXT,
    st.tuples(
        st.lists(
            st.one_of(WORDS, st.sampled_from(["sft", "lora", "checks", "adaptation", "text_match"])), max_size=5
        ).map(".".join),
        st.sampled_from(["=", "", "=="]),
        st.one_of(
            TEXT,
            VALUES.map(lambda value: json.dumps(value)),
            st.sampled_from(["[", "{a: ", "!!python/object:x y", "&a [*a]", "1e5", "~"]),
        ),
    ).map("".join),
)


def any_gates(gate: str) -> None:
    """A gate's text is a gate or a problem with its remedy."""
    parsed = parse(gate)
    assert isinstance(parsed, Gate) or (isinstance(parsed, Problem) and (parsed.remedy or parsed.expected))


def any_overrides(overrides: list[str]) -> None:
    """Overrides of any text are applied or refused, and so is what they make of the recipe."""
    recipe_or_error(lambda: apply_overrides(RECIPE, overrides))
    recipe_or_error(lambda: load_recipe(RECIPE, overrides))


PROPERTIES = {
    prop.holds.__name__: prop
    for prop in (
        Property(broken_recipes, 200, {"changes": CHANGES}),
        Property(broken_recipe_files, 100, {"edits": EDITS}),
        Property(any_gates, 200, {"gate": GATES}),
        Property(any_overrides, 120, {"overrides": st.lists(OVERRIDES, min_size=1, max_size=2)}),
    )
}


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", PROPERTIES)
def test_quick(name: str) -> None:
    PROPERTIES[name].quick()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", PROPERTIES)
def test_long(name: str) -> None:
    PROPERTIES[name].long()
