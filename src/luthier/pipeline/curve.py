"""A learning curve of a file's rows, with the page that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.files import write_atomic
from ..data.curve import LearningCurve
from ..data.curve import learning_curve as curve_of
from ..report.learning import curve_page
from .data import prepare

__all__ = ["learning_curve"]

_SHARE = 0.2
"""Of the rows, where no others are given to measure on."""


def learning_curve(
    train: Any,
    test: Any = None,
    *,
    encoder: str | None = "embedded:minilm",
    sizes: int = 7,
    draws: int = 5,
    seed: int = 1,
    out: str | Path | None = None,
    **data: Any,
) -> LearningCurve:
    """The learning curve of labeled rows; further arguments are the recipe's under `data` (format, columns, steps...).

    train, test: files, folders or hub ids; without `test` a fifth of the rows is measured on. out: where the page goes.
    Errors: as prepare and data.curve.learning_curve; MachineError where the page cannot be written.
    """
    prepared = prepare(train, seed=seed, test=_SHARE if test is None else test, **data)
    found = curve_of(
        prepared.splits["train"], prepared.splits["test"], encoder=encoder, sizes=sizes, draws=draws, seed=seed
    )
    if out is not None:
        write_atomic(Path(out), curve_page(found, str(train)))
    return found
