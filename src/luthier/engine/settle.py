"""Which rows are learned, once other roles have said what they think of them; told in a ledger of the phase."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.contracts import Objective, Row
from ..core.example import Example
from ..data.ledger import Ledger

__all__ = ["settled"]


def settled(
    objective: Objective,
    rows: Sequence[Row],
    examples: Sequence[Example],
    facts: Mapping[str, Any],
    *,
    split: str = "train",
    file: Path | None = None,
    note: Callable[[str], None] = lambda text: None,
    warn: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """The rows of a split that are learned (Objective.settle). file: where the ledger is written, if it says anything.

    note: is told how many rows became what. warn: that none of those which the objective looked at is learned.
    """
    ledger = Ledger()
    page = ledger.page(split, objective.component_name())
    found = objective.settle(rows, {example.id: example for example in examples}, facts, page)
    if ledger.entries:
        if file is not None:
            ledger.write(file)
        counts = [f"{count['count']:,} {count['action']} ({count['reason']})" for count in ledger.counts()]
        (note if any(entry.action != "dropped" for entry in ledger.entries) else warn)(
            f"of {len(ledger.entries):,} rows " + ", ".join(counts)
        )
    return found
