"""Short trainings that chose nano's shape and learning rate: bits a byte on held-out text after equal time.

    python tools/make_nano.py out/nano        once, for the data (needs LUTHIER_DATA)
    python -m experiments.nano_search out/nano [--seconds 240] [--json out/nano_search.json]

Each candidate gets the same seconds of training on this machine, from fresh weights, with warmup, plateau and decay as
the recipe `nano` has them; its first steps tell how many that is. What trains longer may choose a larger shape, and the
learning rate that is best at few tokens is seldom below the one that is best at many: both are said where this is used.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SHAPES: Mapping[str, Mapping[str, int]] = {
    "256x6": {"width": 256, "layers": 6, "inner": 688, "heads": 4, "key_heads": 2, "context": 512},
    "256x8": {"width": 256, "layers": 8, "inner": 688, "heads": 4, "key_heads": 2, "context": 512},
    "384x6": {"width": 384, "layers": 6, "inner": 1024, "heads": 6, "key_heads": 2, "context": 512},
}
TRIED: Sequence[tuple[str, float, int]] = (
    ("256x8", 2e-3, 2048),
    ("256x8", 4e-3, 2048),
    ("256x8", 1e-3, 2048),
    ("256x8", 2e-3, 4096),
    ("256x6", 2e-3, 2048),
    ("384x6", 2e-3, 2048),
)
"""Shape, peak learning rate, tokens a step."""
VALIDATIONS = 8
ROWS = {"stories": None, "children": 20, "books": 40, "questions": 5_000, "instructions": 6_000, "canaries": None}
"""Rows of each source that are read: more than a short training sees."""


def rows_of(folder: Path, split: str, tokenizer: Any) -> tuple[list[Any], int]:
    """Encoded rows of a split, and the bytes of its texts."""
    from luthier.core.recipe import Source
    from luthier.data.encode import Encoding, encode_all
    from luthier.data.read import read
    from luthier.objectives.causal_lm import CausalLM
    from tools.make_nano import REPEATS

    trains = split == "train"
    sources = [
        Source(path=str(path), repeat=REPEATS[path.stem] if trains else 1.0, limit=ROWS[path.stem] if trains else None)
        for path in sorted((folder / split).glob("*.jsonl"))
    ]
    examples = read(sources).examples
    size = sum(len(example.text().encode()) for example in examples)
    return encode_all(CausalLM(), examples, Encoding(tokenizer, max_length=512)), size


def train(
    start: Path, rows: Sequence[Any], validation: tuple[Sequence[Any], int], lr: float, tokens: int, seconds: float
) -> dict[str, Any]:
    """One training of so many seconds: its curve of (tokens, bits a byte), and its speed."""
    import torch

    from luthier.core.recipe import Phase
    from luthier.engine.device import keep_memory
    from luthier.engine.fit import Fit, fit
    from luthier.models.load import load_model
    from luthier.models.roles import Models, role_of

    keep_memory()

    def job(steps: int, log: Any = lambda event, **values: None) -> Fit:
        loaded = load_model(str(start), "causal_lm", dtype=torch.bfloat16, device="cpu", seed=1)
        phase = Phase(
            objective="causal_lm",
            adaptation="full",
            optimizer={"adamw": {"lr": lr, "weight_decay": 0.1, "betas": [0.9, 0.95]}},
            schedule={"warmup_stable_decay": {"warmup": 0.05, "decay": 0.25}},
            steps=steps,
            per_step={"tokens": tokens},
            watch={"every": max(1, steps // VALIDATIONS), "keep_best": False},
        )
        model = phase.adaptation.apply(loaded.model)
        return Fit(
            models=Models(role_of(model, loaded.tokenizer.pad_token_id)),
            objective=phase.objective,
            adaptation=phase.adaptation,
            phase=phase,
            rows=rows,
            validation=validation[0] if steps > 20 else (),
            log=log,
        )

    probe = fit(job(12))
    steps = max(40, round(seconds * probe.tokens_per_s / (probe.tokens / probe.steps)))
    learned = sum(int(row.supervised.sum()) for row in validation[0])
    curve: list[tuple[int, float]] = []
    seen = 0

    def log(event: str, **values: Any) -> None:
        nonlocal seen
        if event == "step":
            seen = values["tokens"]
        if event == "validation":
            curve.append((seen, values["loss"] * learned / validation[1] / math.log(2)))

    result = fit(job(steps, log))
    return {"steps": result.steps, "tokens": result.tokens, "tokens_per_s": result.tokens_per_s, "curve": curve}


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains every candidate and prints a line for each."""
    from transformers import AutoTokenizer

    from tools.make_nano import make_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what tools/make_nano.py made")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of candidates, from 0")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    tokenizer = AutoTokenizer.from_pretrained(given.folder / "start")
    rows, _ = rows_of(given.folder, "train", tokenizer)
    validation = rows_of(given.folder, "validation", tokenizer)
    found = []
    for number, (shape, lr, tokens) in enumerate(TRIED):
        if given.only is not None and number not in given.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            model = make_model(Path(folder), tokenizer, SHAPES[shape])
            began = time.perf_counter()
            result = train(Path(folder), rows, validation, lr, tokens, given.seconds)
        found.append({"shape": shape, "parameters": model["parameters"], "lr": lr, "step_tokens": tokens, **result})
        print(
            f"{shape} ({model['parameters'] / 1e6:.1f}M) lr {lr:g}, {tokens} tokens a step: "
            f"{result['curve'][-1][1]:.4f} bits a byte after {result['tokens'] / 1e6:.2f}M tokens "
            f"({result['tokens_per_s']:,.0f} a second), {time.perf_counter() - began:.0f} s; curve "
            + " ".join(f"{seen / 1e6:.2f}M:{bits:.3f}" for seen, bits in result["curve"]),
            flush=True,
        )
        if given.json:
            given.json.parent.mkdir(parents=True, exist_ok=True)
            given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
