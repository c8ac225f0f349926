"""One writer at a time: a run holds the operating system's lock on its folder, which ends with its process.

The lock is on the file `.lock` in the folder; who holds it stands in there for the one that is refused. Killing the
holder, by whatever means, frees it; the file itself stays and means nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import MachineError
from .files import writing

__all__ = ["locked"]

_NAME = ".lock"
_TAKEN = (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_FAR = 1 << 30  # Windows forbids others to read what is locked: a byte far behind the text


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Holds the lock on a run's folder; False where its file system has no locks, and a second writer goes unseen.

    The folder of one seed (`seeds/seed-N` of a run) is locked with the whole run.
    Errors: MachineError where another process, or another run in this one, holds it.
    """
    path = _whole_run(folder) / _NAME
    with writing("lock", path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        can = _take(handle, path)
        if can:
            holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
            # A full disk leaves the lock as good as it was: only its holder goes unnamed.
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
                os.write(handle, json.dumps(holder).encode())
        yield can
        if can:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _whole_run(folder: Path) -> Path:
    above = folder.parent
    return above.parent if above.name == "seeds" and (above.parent / "recipe.yaml").is_file() else folder


def _take(handle: int, path: Path) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, _FAR, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        if error.errno not in _TAKEN:
            raise
        raise MachineError(
            f"another run is writing to this folder: {_holder(path)}",
            where=str(path.parent),
            expected="one run at a time in a folder",
            remedy="wait until it ends, stop it, or choose another folder with --out",
        ) from error
    return True


def _holder(path: Path) -> str:
    try:
        who = json.loads(path.read_text(encoding="utf-8"))
        return f"process {who['pid']} on {who['host']}, since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its process is not known"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
