"""What both sides of the training benchmarks get: a 135M Llama shape, examples of instruction-like lengths, a clock."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from luthier.core.peak import peak_resident

__all__ = [
    "HIDDEN",
    "RANK",
    "SETTLED",
    "VOCABULARY",
    "WARM",
    "Clock",
    "Example",
    "ceiling",
    "examples",
    "rows_in_order",
    "work",
    "worker",
    "write_model",
]

VOCABULARY, HIDDEN, LAYERS = 49_152, 576, 30
RANK = 16
WARM = 8
"""Rows of the first step, where both sides hold the same ones."""
SETTLED = 2 * WARM
"""Rows after which a side's clock begins, at the end of its second step or a later one."""
EVEN = 16
"""Timed rows that have the mean length among themselves, so that sides whose clocks begin apart time the same work."""


@dataclass(frozen=True)
class Example:
    """One encoded row: ids, and how many of them, at the end, are learned."""

    ids: tuple[int, ...]
    learned: int


def examples(count: int, seed: int = 7) -> list[Example]:
    """Rows with a mean of 135 tokens, log-normal as instructions are, 60 % of each learned."""
    draw = random.Random(seed)
    lengths = [min(400, max(24, round(draw.lognormvariate(4.75, 0.55)))) for _ in range(count)]
    # The mean is made exact, so that a short run measures the same work a row as a long one.
    scale = 135 * count / sum(lengths)
    lengths = [max(16, round(length * scale)) for length in lengths]
    return [Example(tuple(draw.randrange(10, VOCABULARY) for _ in range(n)), round(0.6 * n)) for n in lengths]


def rows_in_order(count: int) -> list[Example]:
    """What both sides train over: SETTLED rows as long as the longest of all, then rows as of `examples`.

    So every batch of the first steps, padded or packed, is as wide as any that follows: memory that grows with the
    width has been touched when the clock begins, of a side that pads as of one that packs.
    """
    timed: list[Example] = []
    while len(timed) < count - SETTLED:
        timed += examples(min(EVEN, count - SETTLED - len(timed)), seed=7 + len(timed))
    longest = max(len(row.ids) for row in timed)
    draw = random.Random(5)
    settled = [tuple(draw.randrange(10, VOCABULARY) for _ in range(longest)) for _ in range(SETTLED)]
    return [*(Example(ids, round(0.6 * longest)) for ids in settled), *timed]


def write_model(folder: Path) -> None:
    """The model with random weights in bf16 and a small tokenizer, as a hub's folder holds them."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=1536,
        num_hidden_layers=LAYERS,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)


def work(kind: str, body: int, tokens: int, learned: int) -> float:
    """Floating-point operations that training of these tokens needs; attention's and the adapters' own are left out.

    lora: forward, and backward to the inputs only, 4 a body parameter and token, and 4 an entry of the output layer and
    learned token. full: backward to the weights too, 6 of each.
    """
    each = {"lora": 4.0, "full": 6.0}[kind]
    return each * (body * tokens + VOCABULARY * HIDDEN * learned)


def ceiling(sizes: tuple[int, ...] = (1024, 2048, 4096), repeats: int = 3) -> float:
    """The best rate (operations a second) of a square bf16 product on this machine."""
    import torch

    best = 0.0
    for size in sizes:
        left, right = (torch.randn(size, size).to(torch.bfloat16) for _ in range(2))
        torch.mm(left, right)
        for _ in range(repeats):
            began = time.perf_counter()
            torch.mm(left, right)
            best = max(best, 2.0 * size**3 / (time.perf_counter() - began))
    return best


class Clock:
    """Marks the end of each step, and begins to count after SETTLED rows and two steps.

    Two: what the optimizer keeps is made at the end of the first, and takes memory that the step had.
    """

    def __init__(self) -> None:
        self.marks: list[float] = []
        self.processor: list[float] = []
        self.rows: list[int] = []
        self.losses: list[float] = []

    def step(self, rows: int, loss: float | None = None) -> None:
        """rows: how many the step learned from."""
        self.marks.append(time.perf_counter())
        self.processor.append(time.process_time())
        self.rows.append(rows)
        if loss is not None:
            self.losses.append(loss)

    def result(self, kind: str, rows: list[Example], body: int, dtype: str) -> dict[str, Any]:
        """Rates and memory over `rows`, in order. Errors: ValueError where no step ends after the settled ones."""
        import torch

        done = list(accumulate(self.rows))
        began = next((at for at, count in enumerate(done) if count >= SETTLED and at), len(done))
        if began + 1 >= len(done):
            raise ValueError(f"{len(done)} steps over {len(rows)} rows: none is left after the first {SETTLED} rows")
        timed = rows[done[began] : done[-1]]
        seconds, processor = (times[-1] - times[began] for times in (self.marks, self.processor))
        tokens, learned = sum(len(row.ids) for row in timed), sum(row.learned for row in timed)
        return {
            "tokens_per_s": tokens / seconds,
            "tokens_per_cpu_s": tokens / processor,
            "wall": seconds,
            "cpu": processor,
            "threads": torch.get_num_threads(),
            "peak_gb": peak_resident() / 1e9,
            "operations_per_s": work(kind, body, tokens, learned) / seconds,
            "first_loss": self.losses[0],
            "steps": len(self.marks),
            "dtype": dtype,
        }


def worker(run: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    """The body of a side's process: settings as JSON in the first argument, the result into the file they name."""
    settings = json.loads(sys.argv[1])
    Path(settings["into"]).write_text(json.dumps(run(settings)), encoding="utf-8")
