"""Files written whole or not at all, and their digests.

A file is written aside, synced and renamed, so that a reader or a resumed run never meets half of one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from .errors import MachineError

__all__ = ["sha256_of", "sync_folder", "write_atomic"]

_REMEDIES = {
    errno.ENOSPC: ("the disk is full", "free some space, or choose another folder with --out"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or choose another folder with --out"),
    errno.EACCES: ("there is no write access", "choose a folder of your own with --out"),
    errno.EPERM: ("there is no write access", "choose a folder of your own with --out"),
    errno.EROFS: ("the file system is read-only", "choose a writable folder with --out"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "choose another folder with --out"),
    errno.EEXIST: ("a part of the path is a file, not a folder", "choose another folder with --out"),
    errno.EISDIR: ("a folder stands where the file belongs", "move it away, or choose another folder with --out"),
}


def write_atomic(path: Path, content: bytes | str) -> None:
    """Writes `content` (text as UTF-8) to `path`, creating its folder; afterwards the old file or the new one is there.

    Errors: MachineError on a full disk, without write access, or where the path cannot be a file.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    aside: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False) as file:
            aside = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is private; the result gets what the process would give any new file.
        os.chmod(aside, 0o666 & ~_umask())
        os.replace(aside, path)
        sync_folder(path.parent)
    except OSError as error:
        if aside is not None:
            with contextlib.suppress(OSError):
                os.unlink(aside)
        found, remedy = _REMEDIES.get(
            error.errno or 0, (error.strerror or str(error), "see whether the folder can be used")
        )
        raise MachineError(f"the file cannot be written: {found}", where=str(path), remedy=remedy) from error


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
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
