"""Adapters on the embedded model after the same steps: their loss beside LoRA's, and the bytes of bases in few bits.

    python -m experiments.adapters [--quick] [--json FILE]

The recipe `demo` in bfloat16 with each adaptation in its place, at a rate that this small model bears: what counts
is the held-out loss on letters that nobody trained on. Bytes are those of storages: of the linear layers inside blocks,
as a share of what they would take in float32.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.record import Measured, finish
from luthier.core.component import build
from luthier.models.load import load_model
from luthier.models.quantized import QuantizedLinear

from ._recipes import arguments_of, finding, ran

__all__ = ["main"]

LORA = {"rank": 16}
RATE = 2e-3
"""For LoRA and its kin; the embedded model is small, and learns at ten times the usual rate."""

SIDES: dict[str, tuple[dict[str, Any], float]] = {
    "lora": ({"lora": LORA}, RATE),
    "lora over int8": ({"lora": LORA | {"base": "int8"}}, RATE),
    "lora over int4": ({"lora": LORA | {"base": "int4"}}, RATE),
    "pissa": ({"lora": LORA | {"init": "pissa"}}, RATE),
    "olora": ({"lora": LORA | {"init": "olora"}}, RATE),
    "lora+": ({"lora": LORA | {"b_scale": 16.0}}, RATE / 4),
    "dora": ({"lora": LORA | {"dora": True}}, RATE),
    "ia3": ({"peft": {"method": "ia3"}}, 1e-2),
    "oft": ({"peft": {"method": "oft"}}, 2e-3),
    "vera": ({"peft": {"method": "vera"}}, 1e-2),
    "prompt": ({"prompt": {"length": 20}}, 3e-2),
    "prefix": ({"prefix": {"length": 20}}, 1e-2),
    "full": ({"full": {}}, 1e-3),
}
MOST = {"int8": 0.26, "int4": 0.15}
"""The largest share of float32's bytes that a base may take."""
WITHIN = 0.02
"""By how much a loss over a base in few bits may differ, as a share of that over bfloat16."""


def share_of_bytes(bits: str) -> float:
    """What the storages of the linear layers inside blocks take, beside float32."""
    model = build("adaptations", {"lora": LORA | {"base": bits}}).apply(  # type: ignore[union-attr]
        load_model("embedded:nano", "causal_lm", dtype=torch.bfloat16).model
    )
    layers = [module for module in model.modules() if isinstance(module, QuantizedLinear)]
    held = sum(t.untyped_storage().nbytes() for layer in layers for t in (*layer.parameters(), *layer.buffers()))
    return held / sum(4 * layer.in_features * layer.out_features for layer in layers)


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Adapters after the same steps, and bases in few bits.", arguments)
    rows = []
    for bits, most in MOST.items():
        share = share_of_bytes(bits)
        rows.append(Measured(f"{bits}: bytes of the linear layers beside float32's", share, None, share))
        rows.append(Measured(f"{bits}: below {most:g} by", share, None, most - share, floor=0.0))
    losses: dict[str, float] = {}
    chosen = [name for name in SIDES if not given.quick or name in ("lora", "lora over int8", "lora over int4")]
    for name in chosen:
        adaptation, rate = SIDES[name]
        settings = [f"adaptation={json.dumps(adaptation)}", f"optimizer.adamw.lr={rate}", "machine.dtype=bfloat16"]
        shorter = ["epochs=null", "steps=4"] if given.quick else []
        folder = given.out / f"adapters-{name.replace(' ', '-')}{'-quick' if given.quick else ''}"
        run = ran("demo", [*settings, "checks=[perplexity]", "gates=[]", *shorter], folder)
        found = {subject: finding(run, "perplexity.perplexity", subject) for subject in ("base", "tuned")}
        base, losses[name] = (math.log(found[subject].value) for subject in ("base", "tuned"))
        low, high = (math.log(bound) if bound else None for bound in (found["tuned"].low, found["tuned"].high))
        rows.append(
            Measured(f"{name}: held-out loss a token, tuned and base", losses[name], base, losses[name], low, high)
        )
    for bits in MOST:
        ratio = losses[f"lora over {bits}"] / losses["lora"]
        what = f"{bits}: loss beside bfloat16's, within {WITHIN:.0%} by"
        rows.append(Measured(what, ratio, 1.0, WITHIN - abs(ratio - 1), floor=None if given.quick else 0.0))
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
