"""A small world in which any component of the catalog can be tried: settings, examples, models, encodings.

Nothing here names a component: rooms are listed, and examples carry every part that an objective may need.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from tiny import make_bert, make_llama, make_t5, make_tokenizer

from luthier.core.component import ROOMS, Component, build, describe, find, names
from luthier.core.contracts import Batch, Objective, Role, Row
from luthier.core.errors import RecipeError
from luthier.core.example import Example, Origin, Part, Turn
from luthier.core.on_policy import OnPolicy
from luthier.core.unlabeled import Unlabeled
from luthier.data.encode import Encoding, encode_all
from luthier.engine.precompute import precompute
from luthier.engine.rollout import Rollouts, frozen_copy, judging
from luthier.engine.settle import settled
from luthier.functional.packing import pack
from luthier.models.load import Loaded, load_model
from luthier.models.roles import Models, models_for, role_of

CLASSES = ("bridge", "strings", "varnish")
KINDS = ("llama", "bert", "t5")
CPU = torch.device("cpu")
MADE = TemporaryDirectory(prefix="luthier-tests-")
"""Holds the tiny models while the process lasts: cases are made of them before there is any fixture."""
ENCODERS = ("features", "masked_lm", "question_answering", "sequence_classification", "token_classification")
"""Tasks for which the tiny encoder is the model at home."""


def catalog() -> list[Any]:
    """(room, name) of every component, as parameters."""
    return [pytest.param(room, name, id=f"{room}-{name}") for room in ROOMS for name in names(room)]


def settings(room: str) -> Iterator[tuple[str, Component]]:
    """Every component of a room in its defaults, where they suffice, and in its example."""
    for name in names(room):
        cls = find(room, name)
        try:
            plain = build(room, name)
        except RecipeError:
            plain = None
        if plain is not None:
            yield name, plain
        shown = build(room, {name: dict(cls.example)})
        if shown != plain:
            yield f"{name}-example", shown


def every(room: str, argument: str) -> pytest.MarkDecorator:
    """Parametrizes a test by the components of a room."""
    return pytest.mark.parametrize(argument, [pytest.param(value, id=name) for name, value in settings(room)])


# ---- examples --------------------------------------------------------------------------------------------------------

SENTENCES = (
    "The luthier keeps the plates thin.",
    "A violin remembers the hands that made it, and the varnish remembers the summer.",
    "How long does a setup take?",
    "The moon listened anyway, night after night.",
    "New strings cost 60 euros.",
    "A small wolf could not howl.",
)


def examples(part: str, count: int = 6, *, task: str | None = None) -> list[Example]:
    """Rows that carry `part` (and a class as target, or a tag for each token), of different lengths and contents.

    Answers come with a prompt: a chosen one with a rejected one, a completion with its worth; a comes with b,
    and with how alike the two are where it is a task to tell; a text to be scored comes with a number; a question comes
    with a context and an answer in it, the last one without.
    """
    found = []
    for number in range(count):
        origin = Origin("rows.jsonl", number + 1)
        if part == "prompt":
            found.append(Example(f"row:{number}", {"prompt": _part("messages", number)[:1]}, origin))  # type: ignore[dict-item]
            continue
        if part in ("chosen", "completion"):
            found.append(_answered(part, number, origin))
            continue
        if part == "a":
            texts = {name: _part("text", number + step) for step, name in enumerate(("a", "b"))}
            found.append(Example(f"row:{number}", texts, origin, number / count if task == "features" else None))
            continue
        if part == "question":
            found.append(_asked(number, count, origin))
            continue
        content = _part(part, number)
        target: Any = float(number) if task == "sequence_score" else CLASSES[number % 3]
        if part == "tokens":
            assert isinstance(content, str)
            target = tuple(_tag(word) for word in content.split(" "))
        found.append(Example(f"row:{number}", {part: content}, origin, target))
    return found


def _answered(part: str, number: int, origin: Origin) -> Example:
    asked, said = _part("messages", number)
    assert isinstance(asked, Turn)
    assert isinstance(said, Turn)
    parts: dict[str, Part] = {"prompt": (asked,), part: (said,)}
    if part == "completion":
        return Example(f"row:{number}", parts, origin, ("good", "bad")[number % 2])
    parts["rejected"] = (Turn("assistant", SENTENCES[(number + 3) % len(SENTENCES)][: 20 + 5 * number]),)
    return Example(f"row:{number}", parts, origin)


def _unlabeled(given: list[Example]) -> list[Example]:
    """Every other row without its class; the last of these is a variant of the one before."""
    found = [one if number % 2 else replace(one, target=None) for number, one in enumerate(given)]
    variant = replace(found[4].origin, parents=(found[2].id,), synthetic=True)
    return [*found[:4], replace(found[4], origin=variant), *found[5:]]


def _asked(number: int, count: int, origin: Origin) -> Example:
    context = str(_part("text", number))
    parts: dict[str, Part] = {"question": SENTENCES[2][: 10 + number], "context": context}
    if number == count - 1:
        return Example(f"row:{number}", parts, origin, ())
    words = context.split(" ")
    answer = words[number % len(words)]
    return Example(f"row:{number}", parts, origin, (answer,), {"answer_starts": str(context.index(answer))})


def _tag(word: str) -> str:
    return "B-NUMBER" if word.isdigit() else "B-BEGIN" if word[0].isupper() else "O"


def _part(part: str, number: int) -> Part:
    text = " ".join(SENTENCES[(number + step) % len(SENTENCES)] for step in range(1 + number % 3))
    return (Turn("user", text), Turn("assistant", f"{number}: {text[:12]}")) if part == "messages" else text


# ---- models ----------------------------------------------------------------------------------------------------------


@cache
def folder_of(kind: str) -> Path:
    """A tiny model and its tokenizer as a Hugging Face folder."""
    folder = Path(MADE.name) / kind
    {"llama": make_llama, "bert": make_bert, "t5": make_t5}[kind]().save_pretrained(folder)
    (make_tokenizer() if kind == "llama" else make_tokenizer(template=None)).save_pretrained(folder)
    return folder


def tokenizer_of() -> Any:
    """The tiny tokenizer, with a mask token."""
    tokenizer = make_tokenizer()
    tokenizer.mask_token = "<|endoftext|>"
    return tokenizer


def home(task: Any) -> str:
    """The kind of model that is at home in a task."""
    return "bert" if task in ENCODERS else "t5" if task == "seq2seq" else "llama"


def meet(kind: str, task: Any) -> bool:
    """Whether a kind of model and a task are tried together: an encoder-decoder and its own task are for each other."""
    return (kind == "t5") == (task == "seq2seq")


def load(kind: str, task: Any, facts: Mapping[str, Any], *, words: bool = False) -> Loaded:
    """A fresh copy of the tiny model with the head that the task asks for, or without. Errors: as load_model."""
    several, labels = facts.get("multi_label", False), facts.get("classes")
    return deepcopy(_loaded(kind, task, None if labels is None else tuple(labels), several, words))


@cache
def _loaded(kind: str, task: Any, labels: tuple[str, ...] | None, several: bool, words: bool) -> Loaded:
    problem: Any = "multi_label_classification" if several else "single_label_classification"
    named = list(labels) if labels else None
    return load_model(str(folder_of(kind)), task, labels=named, problem=problem if labels else None, words=words)


def models_of(objective: Objective, policy: Role, draw: int | None = None) -> Models:
    """What the objective's loss is handed. draw: moves what it trains of its own to numbers of that draw, which are
    what bf16 holds.
    """
    models = models_for(objective, policy)
    if models.own is not None and draw is not None:
        generator = torch.Generator().manual_seed(draw)
        with torch.no_grad():
            for parameter in models.own.parameters():
                parameter.copy_((0.06 * torch.randn(parameter.shape, generator=generator)).bfloat16())
    return models


def answered(objective: OnPolicy, given: list[Example], rows: list[Row], encoding: Encoding) -> list[Row]:
    """The rows of a rollout: what the tiny model answers, with its rewards."""
    model = load(home(objective.task), objective.task, {}).model
    known = {example.id: example for example in given}
    with judging(objective) as judge:
        policy = role_of(model, 0)
        rollouts = Rollouts(
            objective,
            policy,
            role_of(frozen_copy(model, []), 0),
            models_of(objective, policy).own,
            examples=known,
            encoding=encoding,
            judge=judge,
            seed=1,
            device=CPU,
            pad=0,
            log=lambda event, **values: None,
            phase="world",
        )
        return rollouts.rows(0, lambda number: rows, 4096)


_TASKS: dict[str, Task] = {}


@dataclass(frozen=True)
class Task:
    """An objective at work: rows of its own encoding, and what it surveyed."""

    objective: Objective
    part: str
    facts: Mapping[str, Any]
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, objective: Objective, part: str | None = None) -> Task:
        part = part or sorted(objective.needs)[0]
        given = examples(part, task=objective.task if objective.task == "sequence_score" else None)
        if isinstance(objective, Unlabeled):
            given = _unlabeled(given)
        facts = objective.survey(given)
        encoding = Encoding(tokenizer_of(), max_length=128, facts=facts)
        encoding.beside = dict.fromkeys(objective.sources(), encoding)
        rows = objective.complete(encode_all(objective, given, encoding), seed=1)
        if isinstance(objective, OnPolicy):
            rows = answered(objective, given, rows, encoding)
        elif objective.roles:
            start = load(home(objective.task), objective.task, facts)
            role = role_of(start.model, 0)
            others = dict.fromkeys(objective.sources(), role)
            rows = precompute(objective, role, rows, device=CPU, micro_tokens=96, others=others)
        rows = settled(objective, rows, given, facts)
        return cls(objective, part, facts, tuple(rows))

    @staticmethod
    def kept(objective: Objective) -> Task:
        """As `of`, made once for objectives that say the same. Nothing changes a task."""
        said = json.dumps(describe(objective), sort_keys=True)
        if said not in _TASKS:
            _TASKS[said] = Task.of(objective)
        return _TASKS[said]

    def batch(self, *chosen: int, weight: float | None = None) -> Batch:
        """A pack of the rows with these numbers, with a weight of their own where one is given."""
        rows = [self.rows[number] for number in chosen or range(len(self.rows))]
        return pack(rows if weight is None else [replace(row, weight=weight) for row in rows])
