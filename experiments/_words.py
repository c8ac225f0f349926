"""A masked language model from the embedded encoder, tuned on CLINC150's queries without their intents."""

from __future__ import annotations

import json
from pathlib import Path

import luthier

from ._features import ENCODER
from ._recipes import outside

__all__ = ["words_model"]


def words_model(folder: Path, *, quick: bool) -> Path:
    """The run that holds it; one that is finished in the folder is taken. quick: a thousand queries, one epoch."""
    queries: dict[str, list[list[str]]] = json.loads(outside("tasks/clinc150/data_full.json").read_text("utf-8"))
    texts = list(dict.fromkeys(text for part in ("train", "val", "oos_train") for text, _ in queries[part]))
    name = "augmentation-words-quick" if quick else "augmentation-words"
    file = folder / f"{name}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"text": text}) for text in (texts[::18] if quick else texts)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = {
        "name": "words",
        "model": ENCODER,
        "data": {"train": str(file)},
        "phases": [
            {
                "objective": "masked_lm",
                "adaptation": {"full": {"head_scale": 5}},
                "optimizer": {"adamw": {"lr": 3e-4}},
                "schedule": {"linear": {"warmup": 0.1}},
                "epochs": 1 if quick else 5,
                "per_step": {"rows": 64},
                "max_length": 64,
            }
        ],
        "checks": [],
    }
    out = folder / name
    luthier.run(recipe, out=out)
    return out
