"""Every error that a user can cause, and what each tells its reader.

    LuthierError                     exit 2   something was wrong that the user can mend
    ├── RecipeError                  exit 2   the recipe: one or many problems, all at once
    │   └── UnknownComponent         exit 2   no component of that name in its room
    ├── BrokenComponent              exit 2   the component's file exists and does not import
    ├── DataError                    exit 2   a data file or its rows
    ├── ModelError                   exit 2   a model, tokenizer, template or adapter
    ├── MissingExtra                 exit 2   an optional package; the remedy is the install command
    ├── MachineError                 exit 2   disk, memory, write access, device
    ├── TrainingDiverged             exit 2   the loss or a gradient is not finite
    ├── GateFailed                   exit 3   a gate of the recipe does not hold
    └── Interrupted                  exit 130 stopped, resumable with the same command

An error carries `Problem`s. Each says what was found, where, what was expected and the remedy; the command
line prints them without a traceback, and core/redact.py takes credentials out of their words. Programming mistakes are
assertions or Python's own exceptions.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

from .redact import redact

__all__ = [
    "BrokenComponent",
    "DataError",
    "GateFailed",
    "Interrupted",
    "LuthierError",
    "MachineError",
    "MissingExtra",
    "ModelError",
    "Problem",
    "RecipeError",
    "TrainingDiverged",
    "UnknownComponent",
    "first_line",
    "nearest",
    "out_of_memory",
    "shortened",
]


_NO_MEMORY = ("not enough memory", "can't allocate memory", "cannot allocate memory", "failed to map segment")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what was found, where, what was expected, how to mend it."""

    found: str
    where: str | None = None
    expected: str | None = None
    remedy: str | None = None

    def at(self, where: str) -> Problem:
        """The same problem, placed at `where` unless it already has a place."""
        return self if self.where else replace(self, where=where)

    def redacted(self) -> Problem:
        """The same problem without credentials in its words."""
        return replace(self, **{name: redact(text) for name, text in asdict(self).items() if text is not None})

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.found}" if self.where else self.found]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.remedy:
            lines.append(f"  remedy: {self.remedy}")
        return "\n".join(lines)


class LuthierError(Exception):
    """The root of all errors that a user can cause and mend."""

    exit_code: ClassVar[int] = 2

    def __init__(
        self,
        found: str | Problem | Iterable[Problem],
        *,
        where: str | None = None,
        expected: str | None = None,
        remedy: str | None = None,
    ) -> None:
        if isinstance(found, str):
            found = Problem(found, where, expected, remedy)
        problems = (found,) if isinstance(found, Problem) else tuple(found)
        self.problems: Sequence[Problem] = tuple(problem.redacted() for problem in problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class RecipeError(LuthierError):
    """The recipe is wrong; `problems` holds everything that could be found out before loading anything."""


class UnknownComponent(RecipeError):
    """A room has no component of that name."""


class BrokenComponent(LuthierError):
    """A component's file is there and fails to import; the import error is the cause."""


class DataError(LuthierError):
    """A data file, or rows in it."""


class ModelError(LuthierError):
    """A model, its tokenizer, its chat template or an adapter."""


class MissingExtra(LuthierError):
    """An optional package is not installed. Use `MissingExtra.of("encoder", "MiniLM")`."""

    @classmethod
    def of(cls, extra: str, what: str) -> MissingExtra:
        """The error for an extra of this package, with the install command as remedy."""
        return cls(
            f"{what} needs a package that is not installed",
            expected=f"the extra '{extra}'",
            remedy=f"pip install 'luthier[{extra}]'",
        )


class MachineError(LuthierError):
    """Disk, memory, write access or device."""


class TrainingDiverged(LuthierError):
    """The loss or a gradient is not finite; names the step and its rows."""


class GateFailed(LuthierError):
    """At least one gate of the recipe does not hold. The run is complete; its verdict is no."""

    exit_code: ClassVar[int] = 3


class Interrupted(LuthierError):
    """Stopped by a signal after a checkpoint was written; the same command goes on."""

    exit_code: ClassVar[int] = 130


def first_line(error: BaseException) -> str:
    """A foreign error in one line, for `found`: its type, and the first 300 characters of what it says.

    Where the first line only announces the second (it ends in a colon), both.
    """
    text, _, rest = str(error).strip().partition("\n")
    if text.rstrip().endswith(":"):
        text = f"{text.rstrip()} {rest.strip().partition(chr(10))[0]}"
    return f"{type(error).__name__}: {text[:300]}"


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's, torch's on whatever device, or that of a library."""
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"  # torch's for a GPU; this module imports no torch
        or any(words in text for words in _NO_MEMORY)
    )


def shortened(name: str) -> str:
    """A column's or class's name for a message. A table without a header, or the wrong column, makes rows of names."""
    return name if len(name) <= 40 else f"{name[:32]}… ({len(name)} characters)"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name most like `name`, or None when nothing is close."""
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return matches[0] if matches else None
