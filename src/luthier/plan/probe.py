"""Short timed trials on this machine: a few real training steps, and each check on a few items. Nothing is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psutil
import torch

from ..core.contracts import Floats, Ints, Row
from ..core.evidence import Check, CheckContext
from ..core.example import Example
from ..core.recipe import PerStep, Phase, Watch
from ..engine.device import keep_memory, release_memory
from ..engine.estimate import weight_bytes
from ..engine.fit import Fit, fit
from ..engine.step import measure
from ..functional.packing import micro_batches, pack
from ..models.attention import still

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..evaluate.subject import ModelSubject

__all__ = ["STEPS", "Probe", "probe_check", "probe_training", "spread"]

STEPS = 3
"""Training steps of a probe."""
ITEMS = 8
NEW_TOKENS = 16


@dataclass(frozen=True)
class Probe:
    """What a few steps showed: tokens a second (without the first step, which warms up) and the peak in bytes.

    peak: the weights and what the steps took beside them; tokens: of one step of the probe.
    """

    steps: int
    tokens: int
    tokens_per_s: float
    peak: int
    micro_tokens: int


def probe_training(job: Fit) -> Probe:
    """Trains a few steps of at most one micro-batch each; the job's model is changed by it, and nothing else.

    What is solved at once takes no step: rows go through the model, which takes the time of it.
    """
    if job.adaptation.solved:
        return _probe_solved(job)
    seen: list[tuple[float, int]] = []

    def log(event: str, **values: Any) -> None:
        if event == "step":
            seen.append((time.perf_counter(), values["tokens"]))

    device = job.device
    model = job.models.policy.model
    keep_memory()
    release_memory()
    with _peak(device) as grown:
        result = fit(replace(job, phase=_short(job), validation=(), folder=None, log=log))
    (first, before), (last, after) = seen[0], seen[-1]
    rate = (after - before) / (last - first) if len(seen) > 1 and last > first else result.tokens_per_s
    return Probe(result.steps, after // len(seen), rate, weight_bytes(model) + grown[0], result.micro_tokens)


def _probe_solved(job: Fit) -> Probe:
    rows = spread(job.rows, STEPS * job.micro_tokens)[: None if job.adaptation.fits else ITEMS]
    parts = micro_batches(range(len(rows)), [len(row.ids) for row in rows], job.micro_tokens)
    batches = [pack([rows[index] for index in part]).to(job.device) for part in parts]
    model = job.models.policy.model
    with still(model), _peak(job.device) as grown:
        measure(job.objective, job.models, batches[:1])
        began = time.perf_counter()
        tokens = measure(job.objective, job.models, batches).tokens
        rate = tokens / (time.perf_counter() - began)
    return Probe(len(batches), tokens // len(batches), rate, weight_bytes(model) + grown[0], job.micro_tokens)


def spread(rows: Sequence[Row], tokens: int) -> list[Row]:
    """Some of the rows, evenly from all of them, with about so many tokens; all where there are no more."""
    stride = max(1, sum(len(row.ids) for row in rows) // max(1, tokens))
    return list(rows[::stride])


def _short(job: Fit) -> Phase:
    """The job's phase with a few steps of one micro-batch, without validation."""
    phase = job.phase
    mean = sum(len(row.ids) for row in job.rows) / len(job.rows)
    budget = phase.per_step.tokens or int((phase.per_step.rows or 1) * mean)
    small = PerStep(tokens=max(1, min(budget, job.micro_tokens)))
    return phase.model_copy(update={"steps": STEPS, "epochs": None, "per_step": small, "watch": Watch(keep_best=False)})


@contextmanager
def _peak(device: torch.device) -> Iterator[list[int]]:
    """Puts into its list how many bytes the device (or this process) held at most above what it held at the start."""
    grown = [0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        start = torch.cuda.memory_allocated(device)
        yield grown
        grown[0] = torch.cuda.max_memory_allocated(device) - start
        return
    process = psutil.Process()
    start = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            grown[0] = max(grown[0], process.memory_info().rss - start)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield grown
    finally:
        done.set()
        watcher.join()


# ---- checks ----------------------------------------------------------------------------------------------------------


class _Timed:
    """A subject that answers briefly and says how long it generated."""

    def __init__(self, inner: ModelSubject, new_tokens: int) -> None:
        self.inner = replace(inner, decoding=inner.decoding.model_copy(update={"max_new_tokens": new_tokens}))
        self.name, self.about, self.task = inner.name, inner.about, inner.task
        self.generating = 0.0

    def logps(self, examples: Sequence[Example]) -> tuple[Floats, Ints]:
        return self.inner.logps(examples)

    def token_logps(self, examples: Sequence[Example]) -> list[Floats]:
        return self.inner.token_logps(examples)

    def classify(self, examples: Sequence[Example]) -> Floats:
        return self.inner.classify(examples)

    def tag(self, examples: Sequence[Example]) -> list[Floats]:
        return self.inner.tag(examples)

    def extract(self, examples: Sequence[Example]) -> list[list[Floats]]:
        return self.inner.extract(examples)

    def answers(self, examples: Sequence[Example], names: Sequence[str]) -> list[Floats]:
        return self.inner.answers(examples, names)

    def rewards(self, examples: Sequence[Example]) -> list[Floats]:
        return self.inner.rewards(examples)

    def embed(self, texts: Sequence[str]) -> Floats:
        return self.inner.embed(texts)

    def generate(self, examples: Sequence[Example]) -> list[str]:
        started = time.perf_counter()
        answers = self.inner.generate(examples)
        self.generating += time.perf_counter() - started
        return answers


def probe_check(
    check: Check, subject: ModelSubject, test: Sequence[Example], context: CheckContext
) -> Mapping[str, float]:
    """{"items", "seconds"} of a check on all its subjects, scaled up from a few items and short answers.

    Large batches and answers that end early make the check faster than this. Errors: what the check itself refuses.
    """
    items = check.examples(test, context)
    stride = max(1, len(items) // ITEMS)
    few = list(items[::stride])[:ITEMS]
    if not few:
        return {"items": 0, "seconds": 0.0}
    wanted = subject.decoding.max_new_tokens
    new_tokens = min(wanted, NEW_TOKENS)
    timed = _Timed(subject, new_tokens)
    started = time.perf_counter()
    check.measure(timed, few, context)
    spent = time.perf_counter() - started - timed.generating
    one = (spent + timed.generating * wanted / new_tokens) / len(few)
    return {"items": len(items), "seconds": one * len(items) * len(check.subjects)}
