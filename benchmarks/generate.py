"""Generation: 64 prompts of mixed length, 64 tokens each, ours beside transformers' `generate` with its best batching.

    python -m benchmarks.generate [--quick] [--json FILE]

Two models in bf16: embedded:nano, and a 135M Llama shape with random weights. Both sides continue the same prompts
greedily by the same number of tokens (nothing stops a text), in one process and on the same threads, in turn. The peer
is given sorted prompts, padded on the left, in batches of its fastest size on the same prompts, all of them at once
included, and with the faster attention implementation. Value: the peer's time over ours in each pair, by processor
time, and by wall time too where the machine was quiet. Both share the process, and so the allocator as it is and
torch's own number of threads (OMP_NUM_THREADS where it is set), which the row names.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._search import best_size
from benchmarks._turns import Clock, quiet
from benchmarks._workload import examples, write_model
from benchmarks.record import Measured, finish

__all__ = ["main"]

FLOOR = 3.0
LONGEST = 440
"""Tokens of the longest prompt: with 64 new ones it fits into the 512 positions of embedded:nano."""

Texts = list[list[int]]
Times = dict[str, float]
"""Seconds: wall, and cpu for those of the processors."""


@dataclass(frozen=True)
class Way:
    """How the peer is called: rows a batch, and its attention implementation."""

    batch: int
    attention: str


USUAL = Way(16, "sdpa")
"""Where the search begins, and what --quick takes."""


def load(folder: Path) -> Any:
    """The model in bf16; nothing in its settings ends a text."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    model.generation_config = GenerationConfig(pad_token_id=0, eos_token_id=None, do_sample=False)
    return model


def make_prompts(count: int, vocabulary: int) -> Texts:
    return [[10 + token % (vocabulary - 10) for token in row.ids[:LONGEST]] for row in examples(count)]


def ours(model: Any, prompts: Texts, tokens: int) -> Texts:
    """The new tokens of each prompt by luthier."""
    from luthier.models.generate import generate

    return generate(model, prompts, stop=[], pad=0, max_new_tokens=tokens)


def peer(model: Any, prompts: Texts, tokens: int, way: Way) -> Texts:
    """The new tokens of each prompt by transformers: sorted by length, padded on the left."""
    import torch

    model.set_attn_implementation(way.attention)
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    found: Texts = [[] for _ in prompts]
    for low in range(0, len(order), way.batch):
        chosen = order[low : low + way.batch]
        width = len(prompts[chosen[-1]])
        fill = [width - len(prompts[index]) for index in chosen]
        ids = torch.tensor([[0] * gap + prompts[index] for gap, index in zip(fill, chosen, strict=True)])
        seen = torch.tensor([[0] * gap + [1] * (width - gap) for gap in fill])
        with torch.inference_mode():
            texts = model.generate(ids, attention_mask=seen, max_new_tokens=tokens)[:, width:].tolist()
        for index, text in zip(chosen, texts, strict=True):
            found[index] = text
    return found


def timed(run: Callable[[], Texts]) -> tuple[Times, Texts]:
    clock = Clock()
    found = run()
    return clock.read(), found


def fastest(model: Any, prompts: Texts, tokens: int) -> Way:
    """The peer's best way, found on the very work that is timed: its batch by doubling and halving, then the attention.

    By processor time: a way must not lose because something else ran on the machine while it was tried.
    """
    seconds: dict[Way, float] = {}

    def spent(way: Way) -> float:
        seconds[way] = timed(lambda: peer(model, prompts, tokens, way))[0]["cpu"]
        print(f"  other, batch {way.batch:2} {way.attention:5}: {seconds[way]:6.2f} s of processors", flush=True)
        return seconds[way]

    batch = best_size(USUAL.batch, lambda size: spent(Way(size, USUAL.attention)), lambda size: size < 2 * len(prompts))
    spent(Way(batch, "eager"))
    return min(seconds, key=lambda way: seconds[way])


def refuse_unlike(sides: tuple[Texts, Texts], tokens: int) -> None:
    """Both sides must have done the same work. Errors: SystemExit.

    In bf16 greedy texts part where two tokens are about equal, so that only half of the first tokens must agree: of
    thousands that could be.
    """
    if any(len(text) != tokens for texts in sides for text in texts):
        raise SystemExit(f"a side has not given every prompt {tokens} tokens")
    alike = sum(a[0] == b[0] for a, b in zip(*sides, strict=True))
    print(f"  {alike} of {len(sides[0])} first tokens agree", flush=True)
    if 2 * alike < len(sides[0]):
        raise SystemExit("the sides disagree in most first tokens")


def compare(name: str, folder: Path, *, count: int, tokens: int, pairs: int, search: bool) -> list[Measured]:
    """The rows of one model; who goes first changes with each pair."""
    import torch

    # Each side has a model of its own, so that what one sets on it the other does not feel.
    mine, theirs = load(folder), load(folder)
    prompts = make_prompts(count, mine.config.vocab_size)
    print(f"{name}: {count} prompts, {sum(map(len, prompts))} tokens, {tokens} new ones each", flush=True)
    ours(mine, prompts[:2], 2)
    peer(theirs, prompts[:2], 2, USUAL)
    way = fastest(theirs, prompts, tokens) if search else USUAL
    times: list[tuple[Times, Times]] = []
    for pair in range(pairs):
        runs = (lambda: ours(mine, prompts, tokens), lambda: peer(theirs, prompts, tokens, way))
        found = {side: timed(runs[side]) for side in ((0, 1) if pair % 2 == 0 else (1, 0))}
        times.append((found[0][0], found[1][0]))
        told = ", ".join(
            f"{side} {found[at][0]['cpu']:6.2f} s of processors" for at, side in ((0, "ours"), (1, "other"))
        )
        print(f"  {told} (batch {way.batch}, {way.attention})", flush=True)
        if pair == 0:
            refuse_unlike((found[0][1], found[1][1]), tokens)
    threads = torch.get_num_threads()
    title = f"{count} prompts, {tokens} tokens each, {threads} thread{'s' if threads > 1 else ''}"
    taken = f"batches of {way.batch}, {way.attention}"
    return rows_of(name, f"for {title} (value: other over ours; other: {taken})", times, threads)


def rows_of(name: str, what: str, times: Sequence[tuple[Times, Times]], threads: int) -> list[Measured]:
    """Seconds of each side and their ratio over the pairs: the processors', and the clock's where it was quiet."""
    units = {"cpu": "processor seconds"}
    if quiet([side for pair in times for side in pair], threads):
        units["wall"] = "seconds"
    found = []
    for clock, unit in units.items():
        ratios = [other[clock] / own[clock] for own, other in times]
        middles = [statistics.median(pair[side][clock] for pair in times) for side in (0, 1)]
        spread = statistics.median(ratios), min(ratios), max(ratios)
        found.append(Measured(f"{name}: {unit} {what}", *middles, *spread, floor=FLOOR))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Generation beside transformers: seconds for 64 prompts.")
    parser.add_argument("--quick", action="store_true", help="one pair, fewer prompts and tokens, no search")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args(arguments)
    from luthier.models.embedded import embedded_folder

    count, tokens = (16, 16) if given.quick else (64, 64)
    whole = not given.quick
    rows = compare(
        "embedded:nano", embedded_folder("nano"), count=count, tokens=tokens, pairs=5 if whole else 1, search=whole
    )
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        rows += compare("135M", Path(folder), count=count, tokens=tokens, pairs=3 if whole else 1, search=whole)
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
