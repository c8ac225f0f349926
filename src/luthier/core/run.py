"""The run folder: where everything lies, the event log, and the manifest with its finished stages."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .errors import MachineError
from .files import sha256_of, write_atomic

__all__ = ["EventLog", "RunFolder", "digest_of", "read_events"]

Listener = Callable[[Mapping[str, Any]], None]


def digest_of(value: Any) -> str:
    """SHA-256 of a plain value's canonical JSON: equal values have equal digests on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class EventLog:
    """Appends events as lines of JSON, where there is a path, and hands each to listeners (console, trackers)."""

    def __init__(self, path: Path | None, listeners: tuple[Listener, ...] = ()) -> None:
        self._file: IO[str] | None = None
        self.listeners = listeners
        if path is not None:
            _end_torn_line(path)
            self._file = path.open("a", encoding="utf-8")

    def __call__(self, event: str, **values: Any) -> None:
        record = {"time": round(time.time(), 3), "event": event, **values}
        if self._file is not None:
            self._file.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
            self._file.flush()
        for listener in self.listeners:
            listener(record)

    def close(self) -> None:
        """Closes the file, and the listeners that can be closed."""
        if self._file is not None:
            self._file.close()
        for listener in self.listeners:
            close = getattr(listener, "close", None)
            if close is not None:
                close()


def _end_torn_line(path: Path) -> None:
    """A killed writer may leave half a line; ending it keeps the next event on a line of its own."""
    if path.exists() and path.stat().st_size:
        with path.open("rb+") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a log; torn lines are passed over."""
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                value = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(value, dict):
                yield value


class RunFolder:
    """A run's folder, with a name for every place in it.

    Errors: MachineError where it cannot be made or written to.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(
                f"the run folder cannot be made: {error.strerror}",
                where=str(self.path),
                remedy="choose another with --out",
            ) from error
        if not os.access(self.path, os.W_OK):
            raise MachineError(
                "the run folder is not writable", where=str(self.path), remedy="choose another with --out"
            )

    recipe = property(lambda self: self.path / "recipe.yaml")
    events = property(lambda self: self.path / "events.jsonl")
    data = property(lambda self: self.path / "data")
    scores = property(lambda self: self.path / "scores")
    model = property(lambda self: self.path / "model")
    evidence = property(lambda self: self.path / "evidence.json")
    report = property(lambda self: self.path / "report.html")
    card = property(lambda self: self.path / "README.md")
    manifest_path = property(lambda self: self.path / "manifest.json")

    def phase(self, number: int, name: str) -> Path:
        """The folder of phase `number` (from 1)."""
        return self.path / "phases" / f"{number}-{name}"

    def seed(self, seed: int) -> Path:
        """The folder of one repetition."""
        return self.path / "seeds" / f"seed-{seed}"

    def manifest(self) -> dict[str, Any]:
        """The manifest as far as it was written; empty for a new run."""
        if not self.manifest_path.exists():
            return {}
        value: dict[str, Any] = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        return value

    def update_manifest(self, **values: Any) -> None:
        """Sets top-level keys, merging mappings one level deep; written aside and renamed."""
        manifest = self.manifest()
        for key, value in values.items():
            if isinstance(value, Mapping) and isinstance(manifest.get(key), dict):
                manifest[key] = {**manifest[key], **value}
            else:
                manifest[key] = value
        write_atomic(self.manifest_path, json.dumps(manifest, indent=1, ensure_ascii=False, default=str) + "\n")

    def finished(self, stage: str, key: str) -> bool:
        """Whether the stage was finished for exactly what `key` digests, and what it wrote is still there."""
        done = self.manifest().get("stages", {}).get(stage)
        return bool(done) and done["key"] == key and all((self.path / output).exists() for output in done["outputs"])

    @contextmanager
    def stage(self, stage: str, key: str, log: EventLog, outputs: tuple[Path, ...]) -> Iterator[None]:
        """Marks a stage finished when its body ends without an error, with the files that must stay there."""
        started = time.monotonic()
        log("stage", stage=stage, state="started")
        yield
        seconds = round(time.monotonic() - started, 2)
        files = [file for output in outputs for file in (sorted(output.rglob("*")) if output.is_dir() else [output])]
        places = [str(file.relative_to(self.path)) for file in files if file.is_file()]
        self.update_manifest(stages={stage: {"key": key, "seconds": seconds, "outputs": places}})
        log("stage", stage=stage, state="done", seconds=seconds)

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file a reader may rely on: model, data, phases' adapters, evidence, report, card."""
        chosen = [self.recipe, self.evidence, self.report, self.card]
        for folder in (self.data, self.model, self.scores):
            chosen.extend(sorted(folder.rglob("*")) if folder.exists() else [])
        chosen.extend(sorted(self.path.glob("phases/*/result/**/*")))
        return {str(file.relative_to(self.path)): sha256_of(file) for file in chosen if file.is_file()}
