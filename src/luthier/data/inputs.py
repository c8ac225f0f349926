"""What a run's data files are right now, by digest, so that a changed file is noticed and prepared anew."""

from __future__ import annotations

from pathlib import Path

from ..core.embedded import PREFIX, embedded_data
from ..core.files import sha256_of
from ..core.recipe import Data

__all__ = ["input_digests"]


def input_digests(data: Data) -> dict[str, str]:
    """SHA-256 of every file that the sources name, by path; a hub id, or what is absent, stands for itself."""
    found: dict[str, str] = {}
    for split in ("train", "validation", "test"):
        for source in data.sources(split):
            path = Path(source.path)
            if source.path.startswith(PREFIX):
                found[source.path] = sha256_of(embedded_data(source.path))
            elif path.is_dir():
                files = sorted(file for file in path.rglob("*") if file.is_file())
                found |= {str(file): sha256_of(file) for file in files}
            else:
                found[source.path] = sha256_of(path) if path.is_file() else source.path
    return found
