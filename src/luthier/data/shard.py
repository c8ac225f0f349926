"""A process that reads pieces and runs row steps on shards: `python -m luthier.data.shard`, started by data/pool.py."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..core.component import build
from ..core.contracts import Step
from .pool import serve
from .read_task import read_job
from .shelf import shard_job

__all__ = ["main"]


def _work(job: Mapping[str, Any]) -> None:
    if "piece" in job:
        read_job(job)
        return
    steps = [build("steps", described) for described in job["steps"]]
    shard_job(job, [step for step in steps if isinstance(step, Step)])


def main() -> None:
    """Does jobs until there are no more; one thread, since there is a process for each core."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    serve(_work)


if __name__ == "__main__":
    main()
