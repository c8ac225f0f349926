"""What a run's outside files are right now, by digest: a changed one is noticed, a vanished one counts as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..core.embedded import PREFIX, embedded_data
from ..core.files import sha256_of
from ..core.recipe import Data
from ..models.embedded import EMBEDDED
from .hub import folder_of
from .sql import database_file

__all__ = ["Inputs", "recorded_under"]


@dataclass
class Inputs:
    """The digests of what was asked for, by path; `gone` names what is not there any more and is `known` from before.

    known: digests by path, as a finished stage recorded them.
    """

    known: Mapping[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)

    def of(self, path: str) -> dict[str, str]:
        """SHA-256 of a file (SQLite's too), of each in a folder (FOLDER#split too), or of embedded data; empty for
        anything else, such as an embedded model, which is the package's own.
        """
        saved = folder_of(path)
        place = database_file(path) or (saved[0] if saved else Path(path))
        if path.removeprefix(PREFIX) in EMBEDDED and path.startswith(PREFIX):
            found: dict[str, str] = {}
        elif path.startswith(PREFIX):
            found = {path: sha256_of(embedded_data(path))}
        elif place.is_dir():
            found = {str(file): sha256_of(file) for file in sorted(place.rglob("*")) if file.is_file()}
        elif place.is_file():
            found = {str(place): sha256_of(place)}
        else:
            found = recorded_under(path, self.known)
            self.gone.extend([path] if found else [])
        self.digests |= found
        return found

    def of_data(self, data: Data) -> dict[str, str]:
        """The digests of every source and of what steps read; a hub id, or what was never there, stands for itself."""
        paths = [source.path for split in ("train", "validation", "test") for source in data.sources(split)]
        found: dict[str, str] = {}
        for path in [*paths, *(path for step in data.steps for path in step.outside())]:
            found |= self.of(path) or {path: path}
        return found


def recorded_under(path: str, known: Mapping[str, str]) -> dict[str, str]:
    """What was recorded of a file, or of the files in a folder."""
    place = str(Path(path))
    return {name: digest for name, digest in known.items() if name == place or name.startswith(f"{place}/")}
