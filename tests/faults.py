"""Faults on purpose: every place where a run writes, found by watching one, and an error of the system at any."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from safetensors import SafetensorError

import luthier
from luthier.core import run as run_module

Point = tuple[str, str, str]
"""What is done, to what kind of file, called by which function of luthier."""

_PACKAGE = str(Path(luthier.__file__).parent) + os.sep
_RENAMES, _OTHERS = ("os.rename",), ("os.mkdir", "os.chmod", "shutil.rmtree")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Faults:
    """Counts the writes below a folder by their points; raises `code` at occurrence `number` of the point `at`."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.seen: Counter[Point] = Counter()
        self.at: Point | None = None
        self.number, self.code = 1, errno.ENOSPC
        self.struck = False

    def meet(self, what: str, path: Any, *, rust: bool = False) -> None:
        """One write, about to be done."""
        try:
            name = os.fspath(path)
        except TypeError:
            return
        if isinstance(name, bytes) or not name.startswith(self.folder):
            return
        if os.path.isdir(name) and what in ("open", "os.mkdir"):
            return  # looked at, or asked for and there already
        point = (what, _kind(name[len(self.folder) :]), _caller())
        self.seen[point] += 1
        if point == self.at and self.seen[point] == self.number and not self.struck:
            self.struck = True
            if rust:
                raise SafetensorError(f"I/O error: {os.strerror(self.code)} (os error {self.code})")
            raise OSError(self.code, os.strerror(self.code), name)

    def audit(self, event: str, values: tuple[Any, ...]) -> None:
        """The interpreter's own account of what is opened, renamed, made and removed."""
        if event == "open":
            path, mode, flags = values
            if (mode is None and isinstance(flags, int) and flags & _WRITES) or (mode and set(mode) & set("wax+")):
                self.meet(event, path)
        elif event in _RENAMES:
            self.meet(event, values[1])
        elif event in _OTHERS:
            self.meet(event, values[0])


_watching: list[Faults] = []


def _hook(event: str, values: tuple[Any, ...]) -> None:
    if _watching and (event == "open" or event in _RENAMES or event in _OTHERS):
        faults = _watching[-1]
        _watching.clear()  # what it does itself is none of the run's
        try:
            faults.audit(event, values)
        finally:
            _watching.append(faults)


sys.addaudithook(_hook)  # it cannot be taken away again, and does nothing while nobody watches


@contextmanager
def watched(faults: Faults) -> Iterator[None]:
    """Watches what the body writes: opening, renaming, making and removing, syncing, and the writing itself."""
    with pytest.MonkeyPatch.context() as patch:
        sync, write_bytes, write_text = os.fsync, Path.write_bytes, Path.write_text
        serialize = safetensors.torch.serialize_file

        class Log(run_module.FileIO):
            def write(self, line: Any) -> int:
                faults.meet("write", self.name)
                return super().write(line)

        def synced(handle: int) -> None:
            faults.meet("fsync", os.readlink(f"/proc/self/fd/{handle}"))
            sync(handle)

        def bytes_written(path: Path, *rest: Any, **more: Any) -> int:
            faults.meet("write", path)
            return write_bytes(path, *rest, **more)

        def text_written(path: Path, *rest: Any, **more: Any) -> int:
            faults.meet("write", path)
            return write_text(path, *rest, **more)

        def serialized(tensors: Any, path: Any, *rest: Any, **more: Any) -> None:
            faults.meet("save", path, rust=True)
            serialize(tensors, path, *rest, **more)

        patch.setattr(os, "fsync", synced)
        patch.setattr(Path, "write_bytes", bytes_written)
        patch.setattr(Path, "write_text", text_written)
        patch.setattr(safetensors.torch, "serialize_file", serialized)
        patch.setattr(run_module, "FileIO", Log)
        _watching.append(faults)
        try:
            yield
        finally:
            _watching.clear()


def _kind(path: str) -> str:
    """The path without what differs between occurrences: random names of files aside, and step numbers."""
    path = re.sub(r"/\.([^/]+)\.[a-z0-9_]{8}\.part$", r"/\1", path)
    return re.sub(r"\d{8}", "N", path)


def _caller() -> str:
    """The innermost function of the package, without those that write for all others."""
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_PACKAGE) and not code.co_filename.endswith(("core/files.py", "core/run.py")):
            return f"{code.co_filename[len(_PACKAGE) :]}:{code.co_name}"
        frame = frame.f_back
    return "elsewhere"
