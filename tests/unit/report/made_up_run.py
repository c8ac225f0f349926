"""A made-up run folder in the formats that the pipeline writes, with hostile text wherever data can reach."""

from __future__ import annotations

import json
import math
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luthier.core.evidence import Finding
from luthier.core.gates import Verdict

HOSTILE = "<script>alert('x')</script><img src=http://evil.example/x.png onerror=alert(1)>"

RECIPE = """\
name: shop
about: Answers a repair shop's customers in its house style.
model: embedded:nano
license: apache-2.0
data: {train: shop.jsonl, validation: 0.1, test: 0.1, steps: [clean, deduplicate]}
phases:
- name: sft
  objective: causal_lm
  adaptation: {lora: {rank: 16}}
  epochs: 2
checks: [text_match, perplexity, forgetting, parity]
gates: [text_match.exact >= base + 0.10, forgetting.perplexity_ratio.high <= 1.10]
"""


def finding(
    check: str,
    metric: str,
    subject: str,
    value: float,
    low: float | None = None,
    high: float | None = None,
    **more: Any,
):
    settings = {"n": 200, "better": "higher"} | more
    return Finding(check, metric, subject, value, low, high, **settings)


FINDINGS = [
    finding("text_match", "exact", "base", 0.02, 0.005, 0.045),
    finding("text_match", "exact", "tuned", 0.71, 0.645, 0.77),
    finding("text_match", "exact", "change", 0.69, 0.62, 0.755, against="base", p=0.0005),
    finding("text_match", "token_f1", "base", 0.31, 0.29, 0.33),
    finding("text_match", "token_f1", "tuned", 0.88, 0.86, 0.90),
    finding("text_match", "token_f1", "change", 0.57, 0.545, 0.594, against="base", p=0.0005),
    finding("perplexity", "perplexity", "base", 14.2, 13.1, 15.5, better="lower"),
    finding("perplexity", "perplexity", "tuned", 3.91, 3.7, 4.13, better="lower"),
    finding("perplexity", "perplexity", "change", -10.29, -11.5, -9.3, better="lower", against="base", p=0.0005),
    finding("forgetting", "perplexity", "base", 21.7, 20.2, 23.4, better="lower", n=120),
    finding("forgetting", "perplexity", "tuned", 22.0, 20.4, 23.8, better="lower", n=120),
    finding("forgetting", "perplexity", "change", 0.3, -0.1, 0.7, better="lower", n=120, against="base", p=0.21),
    finding("forgetting", "perplexity_ratio", "tuned", 1.014, 0.995, 1.033, better="lower", n=120, against="base"),
    finding("classification", "f1", "tuned", 0.8, 0.7, 0.9, group="card lost " + HOSTILE),
    finding("parity", "gap", "merged", 3.1e-6, better="lower", n=16, against="tuned", note="float32"),
    finding("parity", "gap", "reloaded", 0.0, better="lower", n=16, against="tuned", note="float32"),
]

GATES = [
    Verdict("text_match.exact >= base + 0.10", 0.71, 0.12, True),
    Verdict("forgetting.perplexity_ratio.high <= 1.10", 1.033, 1.10, True),
]

MANIFEST = {
    "name": "shop",
    "created": "2026-03-01T10:00:00Z",
    "luthier": "0.1.0",
    "versions": {"python": "3.11.9", "torch": "2.13.0"},
    "machine": {
        "platform": "Linux x86_64",
        "processor": "two cores",
        "cores": 2,
        "memory_gb": 8,
        "device": "cpu",
        "dtype": "float32",
        "threads": 2,
    },
    "seed": 1,
    "model": {"source": "embedded:nano", "parameters": 8_388_608, "license": "apache-2.0"},
    "inputs": {"shop.jsonl": {"sha256": "ab" * 32, "bytes": 812_345, "rows": 2100}},
    "outputs": {"model/model.safetensors": "cd" * 32},
    "stages": {"prepare": {"key": "k", "seconds": 1.9}, "train sft": {"key": "k", "seconds": 141.2}},
    "training": {
        "sft": {
            "steps": 240,
            "epochs": 2.0,
            "tokens": 983_040,
            "supervised": 401_220,
            "seconds": 141.2,
            "parts": {"data": 0.8, "forward": 55.1, "backward": 80.3, "optimizer": 4.7, "rest": 0.3},
            "waiting": 0.0057,
            "tokens_per_s": 6962.0,
            "peak_memory_gb": 1.31,
            "trainable": 262_144,
            "parameters": 8_650_752,
            "truncated": 3,
            "dropped": 0,
            "best_step": 216,
            "stopped": "end of the epochs",
        }
    },
    "energy": {"kwh": 0.0021, "source": "processor's rated power, a guess"},
}

SUMMARY = {
    "splits": {"train": 1600, "validation": 190, "test": 200},
    "read": 2100,
    "unread": 4,
    "files": [{"path": "shop.jsonl", "sha256": "ab" * 32, "bytes": 812_345, "rows": 2100}],
    "formats": {"shop.jsonl": {"format": "chat", "because": "the first records have messages"}},
    "steps": [
        {"split": "train", "step": "clean", "reason": "zero-width characters", "action": "changed", "count": 61},
        {"split": "train", "step": "clean", "reason": "answer is empty", "action": "dropped", "count": 12},
        {"split": "train", "step": "deduplicate", "reason": "exact copy", "action": "dropped", "count": 70},
        {"split": "test", "step": "deduplicate", "reason": "near copy", "action": "dropped", "count": 28},
        {"split": "test", "step": "deduplicate", "reason": "near copy in train", "action": "noted", "count": 2},
    ],
    "facts": [{"step": "sources", "split": "train", "facts": {"rows": 1990, "by_source": {"web": 0.25}}}],
}

CELLO = "user: My cello buzzes\nassistant: Bring it in."
BRIDGE = "user: The bridge fell.\nassistant: Do not play."
LEDGER = [
    ("train", "clean", "changed", "a1", 7, "zero-width characters", None, CELLO.replace("My", "My\u200b"), CELLO),
    ("train", "clean", "dropped", "a2", 9, "answer is empty", None, f"user: {HOSTILE}\nassistant: ", None),
    ("train", "deduplicate", "dropped", "a3", 15, "exact copy", "a1", CELLO, None),
    ("test", "deduplicate", "noted", "a4", 44, "near copy in train", "a9", BRIDGE, None),
]

WANTED = "Dear violist, please loosen nothing and bring it in.\n[ticket: viola, crack, urgent]"
SAMPLES = [
    {
        "row": f"shop:{index}", "prompt": f"user: My viola number {index} has a crack. What now? {HOSTILE}",
        "wanted": WANTED,
        "base": "The viola is a the of and " * 6,
        "tuned": WANTED if index % 3 else "",
    }
    for index in range(7)
]  # fmt: skip


def events(steps: int = 240) -> list[dict[str, Any]]:
    """Training that is interrupted at 150 and resumed from 120: the repeated steps have other losses."""
    chance = random.Random(0)
    log: list[dict[str, Any]] = [{"time": 1.0, "event": "stage", "stage": "train sft", "state": "started"}]

    def stretch(first: int, last: int, offset: float) -> None:
        for step in range(first, last + 1):
            loss = 0.9 + 2.6 * math.exp(-step / 45) + chance.gauss(0, 0.12) + offset
            rate = 2e-4 * min(1, step / 12) * 0.5 * (1 + math.cos(math.pi * step / steps))
            more = {"tokens": 4096 * step, "tokens_per_s": 6900 + chance.gauss(0, 90), "memory_gb": 1.3}
            log.append({
                "time": step, "event": "step", "phase": "sft", "step": step, "total": steps, "loss": loss, "lr": rate,
                "grad_norm": 1.2 + chance.random(), **more,
            })  # fmt: skip
            if step % 24 == 0:
                loss = 1.0 + 2.5 * math.exp(-step / 45) + offset
                log.append({"time": step, "event": "validation", "phase": "sft", "step": step, "loss": loss})

    stretch(1, min(150, steps), 50.0 if steps < 150 else 0.0)
    if steps > 150:
        stretch(121, steps, 0.0)
    log.append(
        {
            "time": 9.0,
            "event": "warning",
            "text": "3 rows are longer than 512 tokens; their prompts were cut. " + HOSTILE,
        }
    )
    log.append({"time": 9.5, "event": "warning", "text": "the disk is nearly full"})
    log.append({"time": 9.6, "event": "warning", "text": "the disk is nearly full"})
    return log


def write_run(folder: Path) -> Path:
    """The whole made-up run, its event log ending in a torn line."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "data").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps(MANIFEST), encoding="utf-8")
    classes = ["card lost", "card stolen", "refund " + HOSTILE, "top up"]
    evidence = {
        "findings": [asdict(one) for one in FINDINGS],
        "gates": [asdict(one) for one in GATES],
        "samples": {"text_match": SAMPLES},
        "confusion": {
            "base": {"classes": classes, "matrix": [[20, 12, 4, 4], [9, 25, 3, 3], [8, 8, 20, 4], [5, 5, 5, 25]]},
            "tuned": {"classes": classes, "matrix": [[37, 3, 0, 0], [2, 38, 0, 0], [0, 0, 39, 1], [0, 0, 0, 40]]},
        },
    }
    (folder / "evidence.json").write_text(json.dumps(evidence), encoding="utf-8")
    (folder / "data" / "summary.json").write_text(json.dumps(SUMMARY), encoding="utf-8")
    names = ("split", "step", "action", "id", "row", "reason", "of", "before", "after")
    rows = [{**dict(zip(names, entry, strict=True)), "file": "data/shop.jsonl"} for entry in LEDGER]
    pq.write_table(pa.Table.from_pylist(rows), folder / "data" / "ledger.parquet")
    lines = [json.dumps(event) for event in events()]
    (folder / "events.jsonl").write_text("\n".join(lines) + '\n{"time": 10, "event": "st', encoding="utf-8")
    return folder
