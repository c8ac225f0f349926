"""A whole run, from recipe to evidence, in the order a reader would tell it."""

from .data import prepare
from .end_to_end import Run, fit, run

__all__ = ["Run", "fit", "prepare", "run"]
