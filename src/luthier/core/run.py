"""The run folder: where everything lies, the event log, and the manifest with its finished stages."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from .errors import MachineError, first_line
from .files import clear_leftovers, sha256_of, write_atomic, writing
from .redact import redacted

__all__ = ["EventLog", "RunFolder", "digest_of", "read_events", "recorded_files"]

Listener = Callable[[Mapping[str, Any]], None]

_OWN_PLACES = frozenset({"stages", "outputs"})
"""What of the manifest names files that are looked for again: never redacted, since they would not be found."""


def digest_of(value: Any) -> str:
    """SHA-256 of a plain value's canonical JSON: equal values have equal digests on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class EventLog:
    """Appends events as lines of JSON, where there is a path, and hands each to listeners (console, trackers).

    Errors: MachineError where the file cannot be written; what was logged before stays readable.
    """

    def __init__(self, path: Path | None, listeners: tuple[Listener, ...] = ()) -> None:
        self._path, self._file = path, None if path is None else _opened(path)
        self.listeners = listeners

    def __call__(self, event: str, **values: Any) -> None:
        record = {"time": round(time.time(), 3), "event": event, **redacted(values)}
        if self._file is not None and self._path is not None:
            line = memoryview((json.dumps(record, ensure_ascii=False, default=str) + "\n").encode("utf-8", "replace"))
            with writing("event log", self._path):
                while line:
                    line = line[self._file.write(line) :]
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


def _opened(path: Path) -> FileIO:
    """The log, unbuffered: what a full disk refused must not be tried again when the file is closed."""
    with writing("event log", path):
        _end_torn_line(path)
        return FileIO(path, "a")


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
                expected="a folder that is there, or can be made",
                remedy="choose another with --out",
            ) from error
        if not os.access(self.path, os.W_OK):
            raise MachineError(
                "the run folder is not writable",
                where=str(self.path),
                expected="a folder of your own",
                remedy="choose another with --out",
            )

    def refuse_foreign(self) -> None:
        """Errors: MachineError where files that a run would write over lie in a folder that is no run's."""
        if (self.path / ".lock").exists() or self.events.exists() or self.manifest_path.exists():
            return
        own = (self.recipe, self.data, self.scores, self.model, self.evidence, self.report, self.card)
        there = [place.name for place in (*own, self.path / "phases", self.path / "seeds") if place.exists()]
        if there:
            raise MachineError(
                f"the folder holds {', '.join(there)}, which the run would write over, and is no run's",
                where=str(self.path),
                expected="a new or empty folder, or that of an earlier run",
                remedy="choose another with --out, or move what is there away",
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

    def recover(self) -> None:
        """Takes away half-written files of killed runs, and puts back a model that waited for its successor.

        Only under the folder's lock. Errors: MachineError where the system refuses.
        """
        for path in (self.path, *self.path.glob("seeds/seed-*")):
            places = (path, path / "data", path / "scores", path / "model", *(path / "phases").rglob("*"))
            clear_leftovers(
                [place for place in places if place.is_dir()],
                [path / "model", *(path / "phases" / phase.name / "merged" for phase in path.glob("phases/*"))],
            )

    def manifest(self) -> dict[str, Any]:
        """The manifest as far as it was written; empty for a new run. Errors: MachineError where it is damaged."""
        if not self.manifest_path.exists():
            return {}
        try:
            value = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _damaged(self.manifest_path, first_line(error)) from error
        if not isinstance(value, dict):
            raise _damaged(self.manifest_path, "it holds no mapping")
        stages = value.get("stages", {})
        if not isinstance(stages, dict) or not all(isinstance(done, dict) for done in stages.values()):
            raise _damaged(self.manifest_path, "its stages are no mapping")
        return value

    def update_manifest(self, **values: Any) -> None:
        """Sets top-level keys, merging mappings one level deep; written aside and renamed."""
        manifest = self.manifest()
        for key, value in values.items():
            known = manifest.get(key)
            values[key] = {**known, **value} if isinstance(value, Mapping) and isinstance(known, dict) else value
        self.replace_in_manifest(**values)

    def replace_in_manifest(self, **values: Any) -> None:
        """Sets top-level keys whole: what a mapping held before is gone."""
        shown = {key: value if key in _OWN_PLACES else redacted(value) for key, value in values.items()}
        manifest = self.manifest() | shown
        write_atomic(self.manifest_path, json.dumps(manifest, indent=1, ensure_ascii=False, default=str) + "\n")

    def done(self, stage: str) -> dict[str, Any]:
        """What the manifest says of a finished stage; empty where it was not finished."""
        record: dict[str, Any] = self.manifest().get("stages", {}).get(stage) or {}
        return record

    def finished(self, stage: str, key: str) -> bool:
        """Whether the stage was finished for exactly what `key` digests, and what it wrote is still there."""
        done = self.done(stage)
        return bool(done) and done["key"] == key and all((self.path / output).exists() for output in done["outputs"])

    @contextmanager
    def stage(
        self, stage: str, key: str, log: EventLog, outputs: tuple[Path, ...], files: Mapping[str, str] | None = None
    ) -> Iterator[None]:
        """Marks a stage finished when its body ends without an error, with the files that must stay there.

        files: digests of the outside files that `key` depends on. From the start on the stage is not finished any
        more: what it leaves half done must never pass for what an earlier recipe left there whole.
        """
        started = time.monotonic()
        stages = self.manifest().get("stages", {})
        if stage in stages:
            self.replace_in_manifest(stages={name: done for name, done in stages.items() if name != stage})
        log("stage", stage=stage, state="started")
        yield
        seconds = round(time.monotonic() - started, 2)
        found = [file for output in outputs for file in (sorted(output.rglob("*")) if output.is_dir() else [output])]
        places = [str(file.relative_to(self.path)) for file in found if file.is_file()]
        record = {"key": key, "seconds": seconds, "outputs": places} | ({"files": dict(files)} if files else {})
        self.update_manifest(stages={stage: record})
        log("stage", stage=stage, state="done", seconds=seconds)

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file a reader may rely on: model, data, phases' adapters, evidence, report, card."""
        chosen = [self.recipe, self.evidence, self.report, self.card]
        for folder in (self.data, self.model, self.scores):
            chosen.extend(sorted(folder.rglob("*")) if folder.exists() else [])
        chosen.extend(sorted(self.path.glob("phases/*/result/**/*")))
        return {str(file.relative_to(self.path)): sha256_of(file) for file in chosen if file.is_file()}


def _damaged(path: Path, why: str) -> MachineError:
    return MachineError(
        f"the manifest is damaged: {why}",
        where=str(path),
        expected="JSON as a run writes it",
        remedy="put back a copy, or move it away: the same command then does the stages again",
    )


def recorded_files(path: Path) -> dict[str, str]:
    """SHA-256 by path of the outside files that the finished stages of a run depended on; empty where there is no run.

    They are not needed again as long as nothing else changes.
    """
    try:
        folders = [path, *path.glob("seeds/seed-*")]
        manifests = [RunFolder(folder).manifest() for folder in folders if (folder / "manifest.json").is_file()]
    except OSError:  # a path that cannot be looked at holds no run; making the folder says what is wrong with it
        return {}
    stages = [stage for manifest in manifests for stage in manifest.get("stages", {}).values()]
    return {name: digest for stage in stages for name, digest in stage.get("files", {}).items()}
