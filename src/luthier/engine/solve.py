"""A fit without steps: an adaptation that finds what trains from all rows at once (a classic classifier)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from ..core.contracts import Batch, Row
from ..functional.packing import micro_batches, pack
from ..models.attention import still
from .fit import Fit, FitResult
from .meter import peak_memory_gb
from .step import measure

__all__ = ["solve"]

_SHOWN = 64


def solve(job: Fit) -> FitResult:
    """Has the adaptation solve; the model holds the result afterwards. Rows count as often as they are repeated.

    The loss is that of the training rows, of 64 where nothing is fitted to them; best_loss that of the validation rows,
    where there are any.
    """
    began = time.perf_counter()
    rows = [replace(row, weight=row.weight * row.repeat) for row in job.rows]
    batches, held_out = _batches(rows, job), _batches(job.validation, job)
    with still(job.models.policy.model):
        job.adaptation.solve(job.models.policy, batches)
        # Where no row is learned from, some tell enough of how well the answers go.
        loss = measure(job.objective, job.models, batches if job.adaptation.fits else _batches(rows[:_SHOWN], job))
        validation = measure(job.objective, job.models, held_out) if held_out else None
    seconds = time.perf_counter() - began
    job.log(
        "step",
        phase=job.phase.name,
        step=1,
        total=1,
        loss=loss.loss,
        lr=0.0,
        grad_norm=0.0,
        tokens=loss.tokens,
        tokens_per_s=round(loss.tokens / seconds, 1),
        memory_gb=round(peak_memory_gb(job.device), 3),
        seconds={"solve": round(seconds, 4)},
    )
    best = None if validation is None else validation.loss
    if best is not None:
        job.log("validation", phase=job.phase.name, step=1, loss=best, best=True)
    return FitResult(
        steps=1,
        losses=(loss.loss,),
        tokens=loss.tokens,
        supervised=loss.supervised,
        seconds=seconds,
        best_step=None if best is None else 1,
        best_loss=best,
        stopped="solved at once",
        micro_tokens=job.micro_tokens,
        parts={"solve": seconds},
    )


def _batches(rows: Sequence[Row], job: Fit) -> list[Batch]:
    """The longest rows first, so that memory runs out at once or never."""
    lengths = [len(row.ids) for row in rows]
    order = sorted(range(len(rows)), key=lambda index: (-lengths[index], index))
    parts = micro_batches(order, lengths, job.micro_tokens)
    return [pack([rows[index] for index in part]).to(job.device) for part in parts]
