"""Which format a file's records have, and how that was told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.component import Component, find, names
from ..core.contracts import Format
from ..core.errors import DataError

__all__ = ["LOOKED_AT", "FormatFact", "detect", "few", "read_keys", "unfolded"]

LOOKED_AT = 20
"""Records of a file that tell its format."""


@dataclass(frozen=True, slots=True)
class FormatFact:
    """The format that a file was read with, and why."""

    path: str
    format: str
    because: str


def detect(records: Sequence[Mapping[str, Any]], where: str) -> tuple[Format, str]:
    """The format of the records, and the reason in words.

    Of the formats that recognize at least half of the first records, the one that reads most of their keys: labeled
    text before plain text. Errors: DataError where none does, or two read equally many.
    """
    first = records[:LOOKED_AT]
    scores: dict[str, tuple[int, Format, list[str]]] = {}
    for name in names("formats"):
        component = find("formats", name)()
        assert isinstance(component, Format)
        recognized = [record for record in first if component.recognizes(record)]
        if recognized and 2 * len(recognized) >= len(first):
            read = [read_keys(component, record) for record in recognized]
            scores[name] = (sum(map(len, read)), component, max(read, key=len))
    if not scores:
        raise _unrecognized(first, where)
    best = max(score for score, _, _ in scores.values())
    winners = [name for name, (score, _, _) in scores.items() if score == best]
    if len(winners) > 1:
        raise DataError(
            f"the records can be read as {' or as '.join(winners)}",
            where=where,
            remedy=f"name one: data: {{train: {{path: {where}, format: {winners[0]}}}}}",
        )
    _, component, keys = scores[winners[0]]
    return component, f"its records have {'the key' if len(keys) == 1 else 'the keys'} {', '.join(keys)}"


def unfolded(
    document: Mapping[str, Any], chosen: Component | None
) -> tuple[Format, str, Sequence[Mapping[str, Any]]] | None:
    """The format (`chosen`, or any) that finds many records in a file of one object, why, and these; None for none."""
    formats = [chosen] if chosen is not None else [find("formats", name)() for name in names("formats")]
    for component in formats:
        assert isinstance(component, Format)
        rows = component.rows(document)
        if rows is not None:
            return (
                component,
                f"the file is one object that holds many rows; it has the keys {few(list(document))}",
                rows,
            )
    return None


def read_keys(component: Format, record: Mapping[str, Any]) -> list[str]:
    """The keys that matter to the format: without one of them the record is not recognized, or reads differently."""
    watched = _Watched(record)
    whole = _reading(component, watched)
    return [
        key
        for key in record
        if key in watched.asked
        and _reading(component, {other: value for other, value in record.items() if other != key}) != whole
    ]


class _Watched(dict[str, Any]):
    """A record that remembers which keys it was asked for: only these can matter, of a million columns a few."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        super().__init__(record)
        self.asked: set[Any] = set()

    def get(self, key: Any, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: Any) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked.add(key)
        return super().__contains__(key)


def _reading(component: Format, record: Mapping[str, Any]) -> Any:
    if not component.recognizes(record):
        return None
    try:
        return component.contents(record)
    except ValueError as error:
        return str(error)


def few(names: Sequence[str], most: int = 20) -> str:
    """The first names in one line, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name[:80] for name in names[:most]) + more


def _sample(name: str) -> Sequence[str]:
    component = find("formats", name)
    return list(component.sample) if issubclass(component, Format) else []


def _unrecognized(records: Sequence[Mapping[str, Any]], where: str) -> DataError:
    keys = few(list(dict.fromkeys(str(key) for record in records for key in record)))
    expected = "; ".join(f"{name} ({', '.join(_sample(name))})" for name in names("formats"))
    return DataError(
        f"no format fits the records; their keys are {keys or '(none)'}",
        where=where,
        expected=f"such keys as these: {expected}; luthier list formats says more",
        remedy="name the format and which column is what, for example "
        f"train: {{path: {where}, format: alpaca, columns: {{instruction: question, output: answer}}}}",
    )
