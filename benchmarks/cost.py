"""Cost of training against tokens: seconds a step over row lengths, step budgets and model sizes.

    python -m benchmarks.cost [--quick] [--json FILE] [--svg FILE]

Full training of Llama shapes with random weights, in the dtype that pays on the machine. Each axis changes one thing
and keeps the others: rows of one length at 4,096 tokens a step; steps of 512 to 8,192 tokens of instruction-like rows;
models of 1M to 135M at 2,048 tokens a step. The points of the first two take turns in one fit, so that what disturbs
the machine disturbs all of them. Beside each point stands the proportional cost, one time for each token (or operation)
of the axis, the geometric mean of its points; and for each axis its growth, the slope of log seconds over log amount:
1 is proportional. Without --svg a full run draws docs/images/cost.svg, and a quick one nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import exp, log
from pathlib import Path
from typing import Any

from benchmarks._cost_plot import draw
from benchmarks._workload import VOCABULARY, examples
from benchmarks.record import Measured, finish

__all__ = ["Axis", "main", "rows_of", "slope"]

LIMIT = 1.1
"""The largest growth over budgets and model sizes. Over lengths there is none: attention is quadratic by nature."""
LENGTHS, TOKENS = (32, 64, 128, 256, 512, 1024), 4096
BUDGETS = (512, 1024, 2048, 4096, 8192)
SIZED = 2048
"""Tokens of a step on the axis of model sizes."""


@dataclass(frozen=True)
class Shape:
    """A Llama: width, layers, and query heads over a third as many key heads."""

    name: str
    hidden: int
    layers: int
    heads: int
    vocabulary: int


SHAPES = (
    Shape("1M", 96, 6, 3, 4096),
    Shape("8M", 288, 6, 9, 8192),
    Shape("31M", 384, 12, 6, 32_768),
    Shape("135M", 576, 30, 9, VOCABULARY),
)
MIDDLE = SHAPES[1]
"""The shape of the first two axes."""


@dataclass(frozen=True)
class Axis:
    """What was measured along one axis.

    names: of its points; amounts: what cost should be proportional to, in `unit`; seconds: of each point, by round.
    """

    title: str
    unit: str
    names: tuple[str, ...]
    amounts: tuple[float, ...]
    seconds: tuple[tuple[float, ...], ...]
    limit: float | None

    @property
    def middles(self) -> list[float]:
        """The median over rounds of each point."""
        return [statistics.median(rounds) for rounds in self.seconds]

    @property
    def proportional(self) -> list[float]:
        """Seconds of each point at one cost for all, the geometric mean of what the points came to."""
        shares = [log(spent / amount) for spent, amount in zip(self.middles, self.amounts, strict=True)]
        return [amount * exp(statistics.fmean(shares)) for amount in self.amounts]


def slope(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    """The exponent g of seconds = c * amount^g, by least squares of the logarithms."""
    return statistics.linear_regression([log(amount) for amount in amounts], [log(spent) for spent in seconds]).slope


def rows_of(axis: Axis) -> list[Measured]:
    """The axis' points beside the proportional cost, and its growth."""
    points = [
        Measured(
            f"{axis.title}, {name}: seconds (other: in proportion; value: other over ours)",
            spent,
            ideal,
            ideal / spent,
            ideal / max(rounds),
            ideal / min(rounds),
        )
        for name, spent, ideal, rounds in zip(axis.names, axis.middles, axis.proportional, axis.seconds, strict=True)
    ]
    growth = slope(axis.amounts, axis.middles)
    each = [1 / slope(axis.amounts, seconds) for seconds in zip(*axis.seconds, strict=True)]
    name = f"{axis.title}: growth of seconds over {axis.unit}, an exponent (value: 1 over ours)"
    floor = None if axis.limit is None else 1 / axis.limit
    return [*points, Measured(name, growth, 1.0, 1 / growth, min(each), max(each), floor)]


# ---- measuring -------------------------------------------------------------------------------------------------------


def filled(budget: int) -> list[int]:
    """Lengths of instruction-like rows that make `budget` tokens; the last is cut to fit."""
    lengths: list[int] = []
    for row in examples(max(8, budget // 64)):
        lengths.append(min(len(row.ids), budget - sum(lengths)))
        if sum(lengths) == budget:
            return lengths
    raise AssertionError(f"the rows make {sum(lengths)} tokens of {budget}")


def make_model(shape: Shape) -> Any:
    """The model with random weights, in the dtype that pays here."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from luthier.core.recipe import Machine
    from luthier.engine.device import choose

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.hidden * 8 // 3,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads // 3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).to(choose(Machine(device="cpu")).dtype)


def timed(model: Any, steps: Sequence[Sequence[int]], rounds: int) -> list[tuple[float, ...]]:
    """Seconds of each step, made of rows of these lengths, in each round; a round before them is warm-up."""
    import numpy as np

    from luthier.core.contracts import Row
    from luthier.core.recipe import Phase
    from luthier.engine.fit import Fit, fit
    from luthier.models.roles import Models, role_of

    random = np.random.default_rng(0)
    rows: list[Row] = []
    order: list[list[int]] = []
    for lengths in steps:
        order.append(list(range(len(rows), len(rows) + len(lengths))))
        for length in lengths:
            learned = np.arange(length) >= max(1, round(0.4 * length))
            rows.append(Row(f"row-{len(rows)}", random.integers(10, model.config.vocab_size, length), learned))
    phase = Phase(objective="causal_lm", adaptation="full", per_step={"tokens": max(map(sum, steps))})
    marks: list[float] = []

    def mark(event: str, **_: Any) -> None:
        if event == "step":
            marks.append(time.perf_counter())

    fit(
        Fit(
            models=Models(role_of(phase.adaptation.apply(model), 0)),
            objective=phase.objective,
            adaptation=phase.adaptation,
            phase=phase,
            rows=rows,
            log=mark,
            order=order * (rounds + 1),
        )
    )
    spent = [after - before for before, after in pairwise(marks)][len(steps) - 1 :]
    return [tuple(spent[index :: len(steps)]) for index in range(len(steps))]


def operations(shape: Shape, model: Any, tokens: int) -> float:
    """Of a step in full training, 60 % of the tokens learned: 6 a body parameter and token, and an entry of the output
    layer and learned token.
    """
    table = shape.vocabulary * shape.hidden
    body = sum(parameter.numel() for parameter in model.parameters()) - table
    return 6.0 * (body + 0.6 * table) * tokens


def lengths_axis(lengths: Sequence[int], tokens: int, rounds: int) -> Axis:
    """A row's cost over its length, at so many tokens a step."""
    spent = timed(make_model(MIDDLE), [[length] * (tokens // length) for length in lengths], rounds)
    return Axis(
        f"a row, in steps of {tokens:,} tokens ({MIDDLE.name})",
        "its tokens",
        tuple(f"{length:,} tokens" for length in lengths),
        tuple(map(float, lengths)),
        tuple(tuple(step / (tokens // length) for step in steps) for length, steps in zip(lengths, spent, strict=True)),
        None,
    )


def budgets_axis(budgets: Sequence[int], rounds: int) -> Axis:
    """A step's cost over its tokens, in rows of one distribution."""
    return Axis(
        f"a step ({MIDDLE.name})",
        "its tokens",
        tuple(f"{budget:,} tokens" for budget in budgets),
        tuple(map(float, budgets)),
        tuple(timed(make_model(MIDDLE), [filled(budget) for budget in budgets], rounds)),
        LIMIT,
    )


def sizes_axis(shapes: Sequence[Shape], tokens: int, rounds: int) -> Axis:
    """A step's cost over the operations of models of different sizes."""
    amounts, spent = [], []
    for shape in shapes:
        model = make_model(shape)
        amounts.append(operations(shape, model, tokens) / 1e9)
        spent.append(timed(model, [filled(tokens)], rounds)[0])
    return Axis(
        f"a step of {tokens:,} tokens",
        "GFLOP of the model",
        tuple(shape.name for shape in shapes),
        tuple(amounts),
        tuple(spent),
        LIMIT,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Cost of training against tokens, beside the proportional line.")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller points, one round, no limits")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--svg", type=Path, default=None)
    given = parser.parse_args(arguments)
    from luthier.engine.device import keep_memory

    keep_memory()
    if given.quick:
        axes = [lengths_axis(LENGTHS[:3], 256, 1), budgets_axis((256, 512), 1), sizes_axis(SHAPES[:2], 256, 1)]
        axes = [replace(axis, limit=None) for axis in axes]
    else:
        axes = [lengths_axis(LENGTHS, TOKENS, 5), budgets_axis(BUDGETS, 5), sizes_axis(SHAPES, SIZED, 5)]
    drawing = given.svg or (None if given.quick else Path("docs/images/cost.svg"))
    if drawing is not None:
        drawing.parent.mkdir(parents=True, exist_ok=True)
        drawing.write_text(draw(axes), encoding="utf-8")
    return finish([row for axis in axes for row in rows_of(axis)], given.json)


if __name__ == "__main__":
    sys.exit(main())
