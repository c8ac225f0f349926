"""One job of reading: the records of a piece, or of a file that is read whole, written as shards of rows by split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from heapq import merge
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from ..core.component import build, describe
from ..core.contracts import Format
from ..core.example import Example
from ..core.files import file_aside, write_atomic
from ..core.recipe import Source
from .cut import Piece
from .ledger import Ledger
from .read import SHOWN
from .reading import Reading
from .row import BadRow, Record
from .split import place
from .store import Stored, write_examples

__all__ = ["Part", "ReadTask", "id_digest", "read_job", "unread_ledger"]


@dataclass(frozen=True)
class ReadTask:
    """How records become rows, and where these go: files whose names begin with `into`.

    chosen: the format; None for a file in which no record can be read. split: whose sources these are; shares: of the
    splits that take rows from it, as split.shares_of. shard: the most rows of a file.
    """

    file: Reading
    chosen: Format | None
    into: str
    split: str
    shares: Mapping[str, float]
    split_by: str | None
    seed: int
    shard: int

    @property
    def done(self) -> bool:
        """Whether all of it was written."""
        return _facts(self.into).is_file()

    def job(self, piece: Piece) -> dict[str, Any]:
        """The task for another process, which does it with `read_job`."""
        assert self.chosen is not None
        return {
            **vars(self),
            "piece": asdict(piece),
            "file": {**vars(self.file), "source": self.file.source.model_dump(mode="json")},
            "chosen": describe(self.chosen),
        }

    def read(self, records: Iterable[Record | BadRow]) -> None:
        """Writes rows, refusals and digests of ids; the facts, which tell that all is done, come last."""
        shards = _Shards(self.into, self.shard)
        bad: list[BadRow] = []
        ids: list[int] = []
        keys: dict[str, None] = {}
        for record in records:
            found = record if isinstance(record, BadRow) else self._example(record, keys)
            if isinstance(found, BadRow):
                bad.append(found)
                continue
            ids.append(id_digest(found.id))
            shards.add(place(found, self.split_by, self.shares, self.seed) if self.shares else self.split, found)
        bad.sort(key=attrgetter("row"))
        facts = {
            "rows": len(ids) + len(bad),
            "unread": len(bad),
            "bad": [asdict(row) for row in bad[:SHOWN]],
            "keys": list(keys),
            "shards": shards.closed(),
        }
        unread_ledger(self.split, bad).write(_unread(self.into))
        with file_aside(_ids(self.into)) as aside:
            np.asarray(ids, dtype=np.uint64).tofile(aside)
        write_atomic(_facts(self.into), json.dumps(facts))

    def _example(self, record: Record, keys: dict[str, None]) -> Example | BadRow:
        assert self.chosen is not None
        keys.update(dict.fromkeys(record.value))
        return self.file.example(self.chosen, record)


def read_job(job: Mapping[str, Any]) -> None:
    """Does what `ReadTask.job` gave."""
    given = dict(job)
    piece, chosen = Piece(**given.pop("piece")), build("formats", given.pop("chosen"))
    assert isinstance(chosen, Format)
    file = given.pop("file")
    file = Reading(**{**file, "source": Source.model_validate(file["source"])})
    ReadTask(file=file, chosen=chosen, **given).read(piece.records(file.shown))


class Part:
    """What a task wrote."""

    def __init__(self, into: str) -> None:
        found: dict[str, Any] = json.loads(_facts(into).read_text(encoding="utf-8"))
        self.into = into
        self.count: int = found["rows"]
        self.unread: int = found["unread"]
        self.bad = [BadRow(**row) for row in found["bad"]]
        self.keys: list[str] = found["keys"]
        self.shards = {name: [Path(file) for file in files] for name, files in found["shards"].items()}

    def ids(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """The digest of each row's id."""
        return np.fromfile(_ids(self.into), dtype=np.uint64)

    def rows(self) -> Iterator[Example]:
        """Its rows in the order in which they stand in the file."""
        return merge(*map(Stored, self.shards.values()), key=lambda example: example.origin.row)

    def ledger(self) -> Ledger:
        """Its rows that could not be read."""
        return Ledger.stored([_unread(self.into)])

    def without(self, rows: set[int], shard: int) -> None:
        """Takes rows out, by their numbers; what the task wrote stays as it is."""
        for name, files in self.shards.items():
            left = _Shards(f"{self.into}-once", shard)
            for example in Stored(files):
                if example.origin.row not in rows:
                    left.add(name, example)
            self.shards[name] = [Path(file) for file in left.closed().get(name, [])]


class _Shards:
    """Rows by split on their way to files of so many at most."""

    def __init__(self, into: str, most: int) -> None:
        self.into, self.most = into, most
        self.files: dict[str, list[str]] = {}
        self.held: dict[str, list[Example]] = {}

    def add(self, split: str, example: Example) -> None:
        held = self.held.setdefault(split, [])
        held.append(example)
        if len(held) == self.most:
            self._write(split)

    def closed(self) -> dict[str, list[str]]:
        """Writes what is held, and gives the files by split."""
        for split in list(self.held):
            self._write(split)
        return self.files

    def _write(self, split: str) -> None:
        files = self.files.setdefault(split, [])
        files.append(f"{self.into}-{split}-{len(files):05}.parquet")
        write_examples(Path(files[-1]), self.held.pop(split))


def unread_ledger(split: str, bad: Sequence[BadRow]) -> Ledger:
    """The rows that could not be read, as the ledger has them."""
    ledger = Ledger()
    for row in bad:
        ledger.unread(split, row.file, row.row, row.reason, row.text)
    return ledger


def id_digest(name: str) -> int:
    """64 bits of an id: equal where ids are, and of a hundred million others hardly once."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _facts(into: str) -> Path:
    return Path(f"{into}.json")


def _unread(into: str) -> Path:
    return Path(f"{into}.unread.parquet")


def _ids(into: str) -> Path:
    return Path(f"{into}.ids")
