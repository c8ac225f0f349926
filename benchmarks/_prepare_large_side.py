"""One preparation of many rows in a process of its own: `python -m benchmarks._prepare_large_side ROWS OUT WORK`."""

from __future__ import annotations

import sys

import luthier

__all__ = ["STEPS"]

STEPS = ("clean", {"deduplicate": {"across": "note"}})
"""A step that sees one row at a time, and one that must see all."""


def main() -> None:
    """Prepares ROWS into OUT with WORK as the folder that keeps what is unfinished."""
    rows, out, work = sys.argv[1:]
    luthier.prepare(rows, STEPS, out=out, work=work, bad_rows="quarantine")


if __name__ == "__main__":
    main()
