"""Files and folders written whole or not at all, and their digests.

Each is written aside, synced and renamed, so that a reader or a resumed run never meets half of one. What the system
refuses on the way is a MachineError; nothing that was complete before is lost by it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile

from .errors import LuthierError, MachineError, first_line

__all__ = [
    "clear_leftovers",
    "file_aside",
    "folder_aside",
    "remove_tree",
    "sha256_of",
    "sync_folder",
    "write_atomic",
    "writing",
]

_PART, _WRITING, _BEFORE = ".part", ".writing", ".before"
_OTHER = "see whether the folder can be used"
_ROOM = "free some space and give the same command again, or choose another folder with --out"
_REMEDIES = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("the disk quota is used up", _ROOM),
    errno.EFBIG: ("the file is larger than the file system or a limit (ulimit -f) allows", _ROOM),
    errno.EIO: ("the disk reports an error", "look at the system's log and at the disk, or choose another with --out"),
    errno.EACCES: ("there is no write access", "choose a folder of your own with --out"),
    errno.EPERM: ("there is no write access", "choose a folder of your own with --out"),
    errno.EROFS: ("the file system is read-only", "choose a writable folder with --out"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "choose another folder with --out"),
    errno.EEXIST: ("a part of the path is a file, not a folder", "choose another folder with --out"),
    errno.EISDIR: ("a folder stands where the file belongs", "move it away, or choose another folder with --out"),
}
_PART_NAME = re.compile(r"\..+\.[a-z0-9_]{8}\.part")
_CODE = re.compile(r"\(os error (\d+)\)")  # how libraries in Rust (safetensors, tokenizers) name what the system said


@contextlib.contextmanager
def writing(what: str, path: Path) -> Iterator[None]:
    """Turns what the system refuses inside, to safetensors too, into a MachineError: `what` at `path`."""
    try:
        yield
    except LuthierError:
        raise
    except Exception as error:
        named = _CODE.search(str(error))
        if not isinstance(error, OSError) and named is None:
            raise
        code = error.errno if isinstance(error, OSError) else None
        code = code or (int(named[1]) if named else 0)
        found, remedy = _REMEDIES.get(code, (os.strerror(code) if code else first_line(error), _OTHER))
        raise MachineError(f"the {what} cannot be written: {found}", where=str(path), remedy=remedy) from error


@contextlib.contextmanager
def file_aside(path: Path) -> Iterator[Path]:
    """A new file beside `path` to write to, which takes its place when the body ends; making the folder too.

    Errors: MachineError where the system refuses; the file that was there before stays.
    """
    aside: Path | None = None
    with writing("file", path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=_PART, delete=False) as file:
                aside = Path(file.name)
            yield aside
            _sync(aside)
            # A temporary file is private; the result gets what the process would give any new file.
            os.chmod(aside, 0o666 & ~_umask())
            os.replace(aside, path)
        except BaseException:
            if aside is not None:
                with contextlib.suppress(OSError):
                    aside.unlink()
            raise
        sync_folder(path.parent)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Writes `content` (text as UTF-8) to `path`, creating its folder; afterwards the old file or the new one is there.

    Errors: MachineError on a full disk, without write access, or where the path cannot be a file.
    """
    with file_aside(path) as aside:
        aside.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def folder_aside(target: Path, what: str) -> Iterator[Path]:
    """A new folder beside `target` to fill with files, which takes its place when the body ends.

    Errors: MachineError where the system refuses; the folder that was there before stays.
    """
    aside, before = _beside(target)
    with writing(what, target):
        _recover(target)
        try:
            aside.mkdir(parents=True)
            yield aside
            for file in aside.rglob("*"):
                _sync(file)
            _sync(aside)
            if target.exists():
                # A folder cannot be replaced in one rename: the old one waits beside until the new one is in place.
                target.rename(before)
            aside.rename(target)
        except BaseException:
            with contextlib.suppress(OSError):
                _recover(target)
            raise
        sync_folder(target.parent)
        if before.exists():
            shutil.rmtree(before)


def clear_leftovers(files: Iterable[Path], folders: Iterable[Path]) -> None:
    """Takes away what killed writers left: half files in the folders `files`, and beside each of `folders`.

    A folder that waited for its successor comes back where there is none. Errors: MachineError.
    """
    for folder in folders:
        with writing("folder", folder):
            _recover(folder)
    for folder in files:
        with writing("folder", folder):
            for left in folder.glob(f".*{_PART}"):
                if _PART_NAME.fullmatch(left.name):
                    left.unlink()


def _beside(target: Path) -> tuple[Path, Path]:
    return target.with_name(target.name + _WRITING), target.with_name(target.name + _BEFORE)


def _recover(target: Path) -> None:
    """What a killed writer left of `target`: half a new one goes, the old one comes back where no new one is there."""
    aside, before = _beside(target)
    if aside.exists():
        shutil.rmtree(aside)
    if before.exists() and target.exists():
        shutil.rmtree(before)
    elif before.exists():
        before.rename(target)


def remove_tree(folder: Path) -> None:
    """Removes a folder with all that is in it, if it is there. Errors: MachineError where the system refuses."""
    with writing("folder", folder):
        if folder.exists():
            shutil.rmtree(folder)


def sha256_of(path: Path) -> str:
    """The SHA-256 digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable, where the system lets a folder be opened (not on Windows)."""
    _sync(folder)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return
    # Windows flushes only what is open for writing.
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
