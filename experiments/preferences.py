"""Do DPO, IPO, KTO, ORPO and SimPO move a small model toward the preferred answers, and what does length do?

    python -m experiments.preferences [--quick] [--json FILE]

The embedded model first learns the answers of a repair shop, as in the recipe `demo`. From that model each method
learns from the same 270 pairs, KTO from their 540 answers with a label each; 90 pairs of other customers are held out,
and one in twenty of all is the wrong way round, so that 0.95 is the most that can be expected. accuracy is how often
the chosen answer is likelier than the rejected one; win rate how often the tuned model's own answer has the preferred
closing where the start's has not, ties half. The control is DPO on pairs of which a random half was swapped: what it
moves, others may have moved by chance. Length is the difference of the generated answers in characters. A reward model
of the same start learns from the same pairs; another one from the 300 pairs of LLaMA-Factory's demo is held against
those of LLMBar's natural pairs that fit into 512 tokens, where a rater who tosses a coin has 0.5. Intervals are at 95
%, over pairs.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import luthier
from benchmarks.record import Measured, finish
from luthier.core.embedded import embedded_data
from luthier.core.recipe_file import load_recipe
from luthier.pipeline import Run

from ._recipes import arguments_of, finding, outside

__all__ = ["control", "fitting", "labeled", "main", "split"]

METHODS: Mapping[str, Any] = {
    "DPO": {"dpo": {"beta": 0.1}},
    "cDPO": {"dpo": {"beta": 0.1, "label_smoothing": 0.05}},
    "IPO": {"ipo": {"tau": 0.5}},
    "SimPO": {"simpo": {"beta": 2.0, "gamma": 0.5}},
    "ORPO": {"orpo": {"weight": 0.5}},
    "KTO": {"kto": {"beta": 0.1}},
}
PATTERN = "(?i)we keep a place free"
"""The preferred closing of tools/make_preference_data.py."""
LONGEST = 1200
"""Characters of a prompt with an answer."""
Rows = list[dict[str, Any]]


def split(rows: Rows, seed: int = 1) -> tuple[Rows, Rows]:
    """Training pairs, and a quarter held out, whose customers are in no training pair."""
    customers = sorted({row["customer"] for row in rows})
    random.Random(seed).shuffle(customers)
    held: set[str] = set()
    for customer in customers:
        if sum(row["customer"] in held for row in rows) >= len(rows) / 4:
            break
        held.add(customer)
    return [row for row in rows if row["customer"] not in held], [row for row in rows if row["customer"] in held]


def labeled(pairs: Rows) -> Rows:
    """Each answer by itself, good or bad."""
    return [
        {"id": f"{pair['id']}-{name}", "prompt": pair["prompt"], "completion": pair[name], "label": name == "chosen"}
        for pair in pairs
        for name in ("chosen", "rejected")
    ]


def control(pairs: Rows, seed: int = 1) -> Rows:
    """The pairs, a random half of them swapped: there is nothing to learn."""
    draw = random.Random(seed)
    swapped = set(draw.sample(range(len(pairs)), len(pairs) // 2))
    return [
        {**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]} if number in swapped else pair
        for number, pair in enumerate(pairs)
    ]


def fitting(file: Path) -> Rows:
    """LLMBar's pairs that the small model's 512 tokens hold, by their characters."""
    rows: Rows = json.loads(file.read_text(encoding="utf-8"))
    return [row for row in rows if len(row["input"]) + max(len(row["output_1"]), len(row["output_2"])) < LONGEST]


def written(file: Path, rows: Rows) -> str:
    """The rows as JSON lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def start(out: Path, quick: bool) -> Run:
    """The phase of the recipe `demo`, on all of its rows: a start that knows the shop's letters apart.

    One that has seen fewer closes nearly all letters alike, and any push, the control's too, turns all of them over.
    """
    plain = load_recipe("demo").plain()
    phase = dict(plain["phases"][0])
    data = {key: value for key, value in plain["data"].items() if key in ("train", "bad_rows", "steps")}
    if quick:
        phase = {**{key: value for key, value in phase.items() if key != "epochs"}, "steps": 6}
    return luthier.run({"name": "start", "model": plain["model"], "data": data, "phases": [phase]}, out=out / "start")


def tuned(out: Path, name: str, model: Path, objective: Any, train: str, test: str, pairs: str, quick: bool) -> Run:
    """A method's run from the start."""
    phase: dict[str, Any] = {
        "name": "preferences",
        "objective": objective,
        "optimizer": {"adamw": {"lr": 1e-4, "weight_decay": 0.0}},
        "schedule": {"cosine": {"warmup": 0.1}},
        "per_step": {"rows": 32 if "kto" in objective else 16},
        **({"steps": 2} if quick else {"epochs": 1}),
    }
    checks = [
        {"preferences": {"on": pairs}},
        {"win_rate": {"pattern": PATTERN, "limit": 4 if quick else 64}},
        "forgetting",
    ]
    recipe = {
        "name": name.lower(),
        "model": str(model),
        "data": {"train": train, "test": test},
        "phases": [phase],
        "checks": checks[: 1 if quick else 3],
        "decoding": {"max_new_tokens": 112},
    }
    return luthier.run(recipe, out=out / name.lower())


def rewarded(out: Path, name: str, model: str, train: Any, test: str, quick: bool) -> Run:
    """A reward model's run."""
    phase: dict[str, Any] = {
        "objective": "reward",
        "optimizer": {"adamw": {"lr": 1e-4}},
        "per_step": {"rows": 16},
        "max_length": 512,
        **({"steps": 2} if quick else {"epochs": 2}),
    }
    data = {"train": train, "validation": 0.1, "test": test}
    recipe = {"name": name, "model": model, "data": data, "phases": [phase], "checks": ["reward_accuracy"]}
    return luthier.run(recipe, out=out / name)


def rows_of(name: str, run: Run, *, floor: bool, full: bool) -> list[Measured]:
    """What a method came to beside the start."""
    before, after, change = (finding(run, "preferences.accuracy", subject) for subject in ("base", "tuned", "change"))
    title = f"{name}: held-out accuracy (other: the start)"
    least = 0.3 if floor else None
    found = [Measured(title, after.value, before.value, change.value, change.low, change.high, least)]
    # High for the control too: pairs at random make a start less sure that was sure of the rejected answers.
    reward = finding(run, "preferences.reward_accuracy", "tuned")
    found.append(
        Measured(f"{name}: held-out reward accuracy", reward.value, 0.5, reward.value, reward.low, reward.high)
    )
    length = finding(run, "preferences.length_correlation", "tuned")
    found.append(
        Measured(f"{name}: margin and length, correlation", length.value, None, length.value, length.low, length.high)
    )
    if full:
        won, grown = finding(run, "win_rate.win_rate", "tuned"), finding(run, "win_rate.length", "change")
        limit = 0.5 if floor else None
        found.append(Measured(f"{name}: win rate over the start", won.value, 0.5, won.value, won.low, won.high, limit))
        found.append(
            Measured(f"{name}: change of length, characters", grown.value, None, grown.value, grown.low, grown.high)
        )
        lost = finding(run, "forgetting.perplexity_ratio", "tuned")
        found.append(Measured(f"{name}: perplexity elsewhere, ratio", lost.value, 1.0, lost.value, lost.low, lost.high))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Preference objectives on a small model, with control and length.", arguments)
    out = given.out / f"preferences{'-quick' if given.quick else ''}"
    lines = embedded_data("shop-preferences").read_text(encoding="utf-8").splitlines()
    train, test = split([json.loads(line) for line in lines])
    pairs = written(out / "test.jsonl", test)
    files = {
        "pairs": (written(out / "train.jsonl", train), pairs),
        "labels": (
            written(out / "train-labels.jsonl", labeled(train)),
            written(out / "test-labels.jsonl", labeled(test)),
        ),
        "control": (written(out / "train-control.jsonl", control(train)), pairs),
    }
    begun = start(out, given.quick).model
    rows: list[Measured] = []
    for name, objective in [*METHODS.items(), ("control", METHODS["DPO"])]:
        kind = {"KTO": "labels", "control": "control"}.get(name, "pairs")
        run = tuned(out, name, begun, objective, *files[kind], pairs, given.quick)
        rows += rows_of(name, run, floor=not given.quick and name != "control", full=not given.quick)
    demo = [{"path": str(outside("preferences/llama-factory-demos/dpo_en_demo.json"))}]
    natural = written(out / "natural.jsonl", fitting(outside("preferences/llmbar/LLMBar/Natural/dataset.json")))
    for name, model, learned, held in (
        ("reward, the shop's pairs", str(begun), files["pairs"][0], pairs),
        ("reward, LLMBar natural after LLaMA-Factory's demo", "embedded:nano", demo, natural),
    ):
        run = rewarded(out, "reward-shop" if learned != demo else "reward-llmbar", model, learned, held, given.quick)
        found, length = (
            finding(run, "reward_accuracy.accuracy", "tuned"),
            finding(run, "reward_accuracy.length_correlation", "tuned"),
        )
        rows.append(Measured(f"{name}: held-out accuracy", found.value, 0.5, found.value, found.low, found.high))
        rows.append(Measured(f"{name}: reward and length", length.value, None, length.value, length.low, length.high))
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
