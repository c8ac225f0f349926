"""How fast the embedded model writes on this machine, and how fast a run trained it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks._workload import ceiling
from benchmarks.generate import load, make_prompts, ours, timed
from benchmarks.record import Measured
from luthier.core.run import RunFolder, read_events
from luthier.models.load import Loaded, quiet

__all__ = ["between_steps", "generation", "training"]

PROMPTS, TOKENS, REPEATS = 64, 64, 5


def generation(folder: Path, *, prompts: int = PROMPTS, tokens: int = TOKENS, repeats: int = REPEATS) -> Measured:
    """New tokens a second over prompts of mixed length, in bf16: the median of the repeats, by the clock."""
    import torch

    with quiet():
        model = load(folder)
    texts = make_prompts(prompts, model.config.vocab_size)
    ours(model, texts[:2], 2)
    rates = [prompts * tokens / timed(lambda: ours(model, texts, tokens))[0]["wall"] for _ in range(repeats)]
    middle = statistics.median(rates)
    what = f"generation: tokens a second, {prompts} prompts, {tokens} tokens each, threads: {torch.get_num_threads()}"
    return Measured(what, middle, None, middle, min(rates), max(rates))


def between_steps(events: Iterable[Mapping[str, Any]]) -> tuple[int, float]:
    """Tokens and seconds by the clock from the end of a step to the end of the next, over all that follow one another.

    What lies between belongs to it: validation, checkpoints. The first step of a stage, begun or resumed, is left out:
    nothing says when it began.
    """
    tokens, seconds = 0, 0.0
    before: Mapping[str, Any] | None = None
    for event in events:
        if event["event"] == "stage":
            before = None
        if event["event"] != "step":
            continue
        if before is not None:
            tokens += event["tokens"] - before["tokens"]
            seconds += event["time"] - before["time"]
        before = event
    return tokens, seconds


def training(run: Path, loaded: Loaded) -> list[Measured]:
    """Tokens a second over the whole run, and the share of the machine's ceiling that its products came to.

    6 operations a token and parameter; attention's own are left out, and an input embedding that is not tied, as it
    takes part in no product. The ceiling is the best square bf16 product now, on as many threads as the run had.
    Errors: ValueError where no two steps of the run follow one another.
    """
    import torch

    tokens, seconds = between_steps(read_events(run / "events.jsonl"))
    if not tokens:
        raise ValueError(f"{run} holds no two training steps that follow one another")
    rate = tokens / seconds
    model = loaded.model
    weights = sum(parameter.numel() for parameter in model.parameters())
    if not model.config.tie_word_embeddings:
        weights -= model.get_input_embeddings().weight.numel()
    here = torch.get_num_threads()
    threads = RunFolder(run).manifest().get("machine", {}).get("threads") or here
    torch.set_num_threads(threads)
    try:
        best = ceiling()
    finally:
        torch.set_num_threads(here)
    done = 6.0 * weights * rate
    return [
        Measured(
            f"training: tokens a second over {tokens:,} tokens, validation and checkpoints included", rate, None, rate
        ),
        Measured(
            f"training: GFLOP/s (other: the best square bf16 product, threads: {threads}; value: the share)",
            done / 1e9,
            best / 1e9,
            done / best,
        ),
    ]
