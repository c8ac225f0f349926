"""Fine-tunes on records made in Python, without files: python examples/python/fit_records.py [MODEL] [FOLDER]."""

from __future__ import annotations

import sys

import luthier

SIZES = ("quarter", "half", "full")
INSTRUMENTS = ("violin", "viola", "cello", "guitar", "mandolin", "lute", "zither", "banjo")

records = [
    {
        "messages": [
            {"role": "user", "content": f"Do you repair a {size}-size {instrument}?"},
            {"role": "assistant", "content": f"Yes, we do. Please bring the {instrument} in its case."},
        ]
    }
    for size in SIZES
    for instrument in INSTRUMENTS
]


def main(model: str = "embedded:nano", folder: str = "runs/records") -> None:
    run = luthier.fit(
        model,
        records,
        test=0.25,
        adaptation={"lora": {"rank": 8}},
        optimizer={"adamw": {"lr": 2e-3}},
        epochs=3,
        per_step={"tokens": 512},
        checks=["perplexity"],
        gates=["perplexity.perplexity < base"],
        out=folder,
    )
    base, tuned = (run.value("perplexity.perplexity", subject) for subject in ("base", "tuned"))
    print(f"perplexity {base:.1f} -> {tuned:.1f}; gates {'hold' if run.passed else 'fail'}; {run.report}")


if __name__ == "__main__":
    main(*sys.argv[1:])
