"""Do PPO, GRPO and RLOO raise a reward that can be verified, on held-out prompts, and how far do they go for it?

    python -m experiments.reinforce [--quick] [--json FILE]

The embedded model first learns the answers of a repair shop, as in the recipe `demo`. From there each method learns
from its own answers to letters and a rule: 1 for an answer that holds the closing line that some of the shop's answers
have, else 0. A quarter of the letters is held out, by customer. The control learns from a reward that has nothing to do
with the closing (how near the answer's length is to 30 words), for as long: what it moves, others may have moved by
chance. PPO takes each of its rollouts twice, in twice the steps: every method gives as many answers. Reported are the
rate of the closing in greedy answers to held-out letters beside the start's, the divergence from the start in nats an
answer on held-out letters (drawn answers), and what is lost elsewhere. Intervals are at 95 %, over letters.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import luthier
from benchmarks.record import Measured, finish
from luthier.core.recipe_file import load_recipe
from luthier.core.run import read_events
from luthier.pipeline import Run

from ._recipes import arguments_of, finding

__all__ = ["METHODS", "divergence", "main", "recipe_of"]

CLOSING = "We keep a place free for you."
RULE: Mapping[str, Any] = {"contains": {"text": CLOSING}}
SHARED: Mapping[str, Any] = {"answers": 8, "max_new_tokens": 112, "kl": 0.02}
METHODS: Mapping[str, Any] = {
    "GRPO": {"grpo": {"rewards": [RULE], **SHARED}},
    "DAPO": {"grpo": {"rewards": [RULE], **SHARED, "average": "token", "clip_high": 0.28}},
    "PPO": {"ppo": {"rewards": [RULE], **SHARED, "passes": 2}},
    "RLOO": {"rloo": {"rewards": [RULE], **SHARED}},
    "control": {"grpo": {"rewards": [{"length": {"words": 30}}], **SHARED}},
}
LEAST = 0.2
"""What a method is to raise the rate of the closing by, at the least."""


def start(out: Path, quick: bool) -> Run:
    """The phase of the recipe `demo`, on its training letters."""
    plain = load_recipe("demo").plain()
    phase = dict(plain["phases"][0])
    if quick:
        phase = {**{key: value for key, value in phase.items() if key != "epochs"}, "steps": 4}
    return luthier.run({"name": "start", "model": plain["model"], "data": data(), "phases": [phase]}, out=out / "start")


def data() -> dict[str, Any]:
    """The letters, the same split for every run: a quarter of the customers is held out."""
    return {
        "train": "embedded:repair-shop",
        "validation": 0.05,
        "test": 0.25,
        "split_by": "customer",
        "bad_rows": "quarantine",
        "steps": ["clean"],
    }


def recipe_of(name: str, model: Path, quick: bool) -> dict[str, Any]:
    """A method's run from the start."""
    objective = METHODS[name]
    kind, settings = next(iter(objective.items()))
    if quick:
        objective = {kind: {**settings, "answers": 2, "max_new_tokens": 12}}
    phase: dict[str, Any] = {
        "name": "reinforce",
        "objective": objective,
        "optimizer": {"adamw": {"lr": 1e-4, "weight_decay": 0.0}},
        "schedule": {"constant": {"warmup": 0.05}},
        "steps": (1 if quick else 60) * settings.get("passes", 1),
        "per_step": {"rows": 2 if quick else 8},
        "watch": {"rows": 2 if quick else 64, "keep_best": False},
    }
    checks = [{"win_rate": {"pattern": CLOSING, "limit": 2 if quick else 128}}, "forgetting"]
    return {
        "name": name.lower(),
        "model": str(model),
        "data": data(),
        "phases": [phase],
        "checks": checks[: 1 if quick else 2],
        "decoding": {"max_new_tokens": 12 if quick else 112},
    }


def divergence(events: Path) -> float:
    """Nats an answer between the policy and its start, on held-out letters, at the last validation.

    Errors: ValueError where none was logged.
    """
    found = [event["figures"]["kl"] for event in read_events(events) if event.get("event") == "validation"]
    if not found:
        raise ValueError(f"{events} holds no validation")
    return float(found[-1])


def rows_of(name: str, run: Run, folder: Path, *, floor: bool, full: bool) -> list[Measured]:
    """What a method came to beside the start."""
    before, after, change = (finding(run, "win_rate.score", subject) for subject in ("base", "tuned", "change"))
    least = LEAST if floor else None
    title = f"{name}: answers with the closing, held-out letters (other: the start)"
    away = divergence(folder / "events.jsonl")
    found = [
        Measured(title, after.value, before.value, change.value, change.low, change.high, least),
        Measured(f"{name}: divergence from the start, nats an answer", away, 0.0, away),
    ]
    length = finding(run, "win_rate.length", "change")
    found.append(
        Measured(f"{name}: change of length, characters", length.value, None, length.value, length.low, length.high)
    )
    if full:
        lost = finding(run, "forgetting.perplexity_ratio", "tuned")
        found.append(Measured(f"{name}: perplexity elsewhere, ratio", lost.value, 1.0, lost.value, lost.low, lost.high))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Reinforcement learning on a small model, with a control and the divergence.", arguments)
    out = given.out / f"reinforce{'-quick' if given.quick else ''}"
    begun = start(out, given.quick).model
    rows: list[Measured] = []
    for name in METHODS:
        folder = out / name.lower()
        run = luthier.run(recipe_of(name, begun, given.quick), out=folder)
        rows += rows_of(name, run, folder, floor=not given.quick and name != "control", full=not given.quick)
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
