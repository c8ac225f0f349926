"""Whether a stage is done again or kept, and what is said of files that changed or vanished since it was done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import DataError, Problem
from ..engine.phase import Setting
from .keys import Key

__all__ = ["changes", "kept"]


@contextmanager
def kept(setting: Setting, stage: str, key: Key, outputs: tuple[Path, ...]) -> Iterator[bool]:
    """Gives True where the stage must be done in the body, False where it was finished for the same key.

    Says which files changed or vanished since. Errors: DataError where a vanished one is needed.
    """
    folder, log = setting.folder, setting.log
    if folder.finished(stage, key.digest):
        for path in key.gone:
            log("warning", text=f"'{path}' is not there any more; what was made of it before is kept and used")
        log("stage", stage=stage, state="kept")
        yield False
        return
    if key.gone:
        # Before the stage begins: what was finished stays finished.
        raise DataError([_needed(stage, path) for path in key.gone])
    for text in changes(folder.done(stage).get("files", {}), key.files):
        log("warning", text=f"{text} since the stage '{stage}': it is done again, and so is all that follows from it")
    with folder.stage(stage, key.digest, log, outputs, key.files):
        yield True


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Every file whose content is another than before, with the beginnings of both digests."""
    return [
        f"'{path}' changed (SHA-256 {before[path][:8]}, now {digest[:8]})"
        for path, digest in now.items()
        if before.get(path, digest) != digest
    ]


def _needed(stage: str, path: str) -> Problem:
    return Problem(
        f"the file is not there any more, and '{stage}' must be done again: something that it depends on changed",
        path,
        "the file, or the recipe, the seed and the other files as they were",
        "bring the file back, or undo the change; what was made before is still there",
    )
