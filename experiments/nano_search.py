"""Short trainings that chose nano's shape and learning rate: bits a byte on held-out text at equal cost.

    python tools/make_nano.py out/nano        once, for the data (needs LUTHIER_DATA)
    python -m experiments.nano_search out/nano [--tokens 1.5e6] [--json out/nano_search.json] [--page docs/nano.md]

A candidate trains from fresh weights, with warmup, plateau and decay as the recipe `nano` has them, on so many tokens
that their number times that of the weights is the same for all: equal work in products, whatever else the machine does.
What trains longer may choose a larger shape, and the learning rate that is best at few tokens is seldom below the one
that is best at many.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record import measured_here, placed
from luthier.core.files import write_atomic

SHAPES: Mapping[str, Mapping[str, int]] = {
    "256x6": {"width": 256, "layers": 6, "inner": 688, "heads": 4, "key_heads": 2, "context": 512},
    "256x8": {"width": 256, "layers": 8, "inner": 688, "heads": 4, "key_heads": 2, "context": 512},
    "384x6": {"width": 384, "layers": 6, "inner": 1024, "heads": 6, "key_heads": 2, "context": 512},
}
ADAMW = {"weight_decay": 0.1, "betas": [0.9, 0.95]}
MUON = {"weight_decay": 0.1}
TRIED: Sequence[tuple[str, Mapping[str, Any], int]] = (
    ("256x8", {"adamw": {"lr": 2e-3, **ADAMW}}, 2048),
    ("256x8", {"muon": {"lr": 2e-3, **MUON}}, 2048),
    ("256x8", {"adamw": {"lr": 4e-3, **ADAMW}}, 2048),
    ("256x8", {"muon": {"lr": 4e-3, **MUON}}, 2048),
    ("256x8", {"adamw": {"lr": 1e-3, **ADAMW}}, 2048),
    ("256x8", {"muon": {"lr": 4e-3, **MUON}}, 4096),
    ("256x6", {"muon": {"lr": 4e-3, **MUON}}, 2048),
    ("384x6", {"muon": {"lr": 4e-3, **MUON}}, 2048),
)
"""Shape, optimizer with its peak learning rate, tokens a step."""
VALIDATIONS = 8
ROWS = {"stories": None, "children": 20, "books": 40, "questions": 4_000, "instructions": 6_000, "canaries": None}
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
    start: Path,
    rows: Sequence[Any],
    validation: tuple[Sequence[Any], int],
    optimizer: Mapping[str, Any],
    step_tokens: int,
    tokens: float,
) -> dict[str, Any]:
    """One training of so many tokens: its curve of (tokens, bits a byte), and its speed."""
    import torch

    from luthier.core.recipe import Phase
    from luthier.engine.device import keep_memory
    from luthier.engine.fit import Fit, fit
    from luthier.models.load import load_model
    from luthier.models.roles import Models, role_of

    keep_memory()

    loaded = load_model(str(start), "causal_lm", dtype=torch.bfloat16, device="cpu", seed=1)
    steps = math.ceil(tokens / step_tokens)
    phase = Phase(
        objective="causal_lm",
        adaptation="full",
        optimizer=optimizer,
        schedule={"warmup_stable_decay": {"warmup": 0.05, "decay": 0.25}},
        steps=steps,
        per_step={"tokens": step_tokens},
        watch={"every": max(1, steps // VALIDATIONS), "keep_best": False},
    )
    learned = sum(int(row.supervised.sum()) for row in validation[0])
    curve: list[tuple[int, float]] = []
    seen = 0

    def log(event: str, **values: Any) -> None:
        nonlocal seen
        if event == "step":
            seen = values["tokens"]
        if event == "validation":
            curve.append((seen, values["loss"] * learned / validation[1] / math.log(2)))

    model = phase.adaptation.apply(loaded.model)
    result = fit(
        Fit(
            models=Models(role_of(model, loaded.tokenizer.pad_token_id)),
            objective=phase.objective,
            adaptation=phase.adaptation,
            phase=phase,
            rows=rows,
            validation=validation[0],
            log=log,
        )
    )
    return {"steps": result.steps, "tokens": result.tokens, "tokens_per_s": result.tokens_per_s, "curve": curve}


def text_of(found: Sequence[Mapping[str, Any]], threads: int) -> str:
    """The section for the page: a line for each candidate, with bits a byte at equal shares of its time."""
    where = measured_here()
    shares = [f"{at}/{VALIDATIONS}" for at in range(1, VALIDATIONS + 1)]
    lines = [
        "## How the recipe was chosen",
        "",
        f"`{where['command']}`, {threads} thread each",
        "",
        f"{where['date']} · {where['machine']}",
        "",
        "Bits a byte on the validation documents after shares of the training, from fresh weights, with the recipe's",
        "schedule; tokens times weights are equal. The best stands first. The optimizer matters most. Of the shapes",
        "the smallest leads where the work is this short; the training is some forty times as long, and the best",
        "number of weights grows about as the root of the work (Hoffmann et al. 2022, arXiv:2203.15556), so that the",
        "recipe takes the middle one, and the larger step, which costs little here and halves what the optimizer adds",
        "to a token.",
        "",
        "| shape | weights | optimizer | tokens a step | tokens | " + " | ".join(shares) + " |",
        "|---|---:|---|---:|---:|" + "---:|" * VALIDATIONS,
    ]
    for one in sorted(found, key=lambda one: one["curve"][-1][1]):
        name, given = next(iter(one["optimizer"].items()))
        # The last step is validated twice where it closes a share.
        curve = list(dict(one["curve"]).values())[-VALIDATIONS:]
        bits = " | ".join(f"{bits:.3f}" for bits in curve)
        lines.append(
            f"| {one['shape']} | {one['parameters'] / 1e6:.1f}M | {name}, {given['lr']:g} | {one['step_tokens']:,} | "
            f"{one['tokens'] / 1e6:.2f}M | {bits} |"
        )
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains every candidate and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what tools/make_nano.py made")
    parser.add_argument("--tokens", type=float, default=1.5e6, help="for the first candidate's shape")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of candidates, from 0; none: only write the page")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--earlier", type=Path, nargs="*", default=(), help="what earlier calls wrote with --json")
    parser.add_argument("--page", type=Path)
    given = parser.parse_args(arguments)
    found = [one for path in given.earlier for one in json.loads(path.read_text(encoding="utf-8"))]
    for one in searched(given.folder, range(len(TRIED)) if given.only is None else given.only, given.tokens):
        found.append(one)
        if given.json:
            write_atomic(given.json, (json.dumps(found, indent=1) + "\n").encode())
    if given.page:
        before = given.page.read_text(encoding="utf-8")
        write_atomic(given.page, placed(before, "nano-search", text_of(found, found[0]["threads"])).encode())


def searched(folder: Path, numbers: Sequence[int], tokens: float) -> Iterator[dict[str, Any]]:
    """Trains these candidates, prints a line for each, and gives what was found."""
    import torch
    from transformers import AutoTokenizer

    from tools.make_nano import make_model, model_of

    if not numbers:
        return
    tokenizer = AutoTokenizer.from_pretrained(folder / "start")
    rows, _ = rows_of(folder, "train", tokenizer)
    validation = rows_of(folder, "validation", tokenizer)
    first = sum(weight.numel() for weight in model_of(tokenizer, SHAPES[TRIED[0][0]]).parameters())
    for number in numbers:
        shape, optimizer, step_tokens = TRIED[number]
        with tempfile.TemporaryDirectory() as start:
            model = make_model(Path(start), tokenizer, SHAPES[shape])
            began = time.perf_counter()
            amount = tokens * first / model["parameters"]
            result = train(Path(start), rows, validation, optimizer, step_tokens, amount)
        name = next(iter(optimizer))
        rate = optimizer[name]["lr"]
        print(
            f"{shape} ({model['parameters'] / 1e6:.1f}M) {name} at {rate:g}, {step_tokens} tokens a step: "
            f"{result['curve'][-1][1]:.4f} bits a byte after {result['tokens'] / 1e6:.2f}M tokens "
            f"({result['tokens_per_s']:,.0f} a second), {time.perf_counter() - began:.0f} s; curve "
            + " ".join(f"{seen / 1e6:.2f}M:{bits:.3f}" for seen, bits in result["curve"]),
            flush=True,
        )
        yield {
            "shape": shape,
            "parameters": model["parameters"],
            "optimizer": optimizer,
            "step_tokens": step_tokens,
            "threads": torch.get_num_threads(),
            **result,
        }


if __name__ == "__main__":
    main()
