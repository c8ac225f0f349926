"""A recipe put together from components: python examples/python/compose.py DATA.jsonl [MODEL] [FOLDER]."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import luthier
from luthier import Data, Phase, Recipe, Watch
from luthier.adaptations.lora import Lora
from luthier.checks.perplexity import Perplexity
from luthier.data.steps.clean import Clean
from luthier.data.steps.deduplicate import Deduplicate
from luthier.optimizers.adamw import AdamW
from luthier.schedules.cosine import Cosine


def recipe(data: str, model: str) -> Recipe:
    """The same object that a YAML file gives; `luthier.core.recipe_file.dump` writes it as one."""
    return Recipe(
        name="composed",
        model=model,
        data=Data(train=data, validation=0.1, test=0.1, steps=(Clean(), Deduplicate(threshold=0.9))),
        phases=(
            Phase(
                name="sft",
                adaptation=Lora(rank=8),
                optimizer=AdamW(lr=1e-3),
                schedule=Cosine(warmup=0.1),
                epochs=1,
                watch=Watch(patience=3),
            ),
        ),
        checks=(Perplexity(limit=200),),
    )


def follow(event: Mapping[str, Any]) -> None:
    """Every event of the run, as a line of events.jsonl has it."""
    if event["event"] == "validation":
        print(f"step {event['step']}: validation loss {event['loss']:.3f}")


def main(data: str, model: str = "embedded:nano", folder: str = "runs/composed") -> None:
    run = luthier.run(recipe(data, model), out=folder, listeners=[follow])
    for finding in run.findings:
        print(finding.check, finding.metric, finding.subject, finding.value, finding.low, finding.high)


if __name__ == "__main__":
    main(*sys.argv[1:])
