"""How the records of one file become examples: their format, columns, groups and weight."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.contracts import Format
from ..core.errors import DataError, Problem, nearest
from ..core.example import Example, Origin
from ..core.recipe import Source
from .detect import LOOKED_AT, detect, few
from .row import BadRow, Record

__all__ = ["Reading"]


@dataclass(frozen=True)
class Reading:
    """What is asked of one file. `shown` is its name in messages and origins, `stem` begins the ids of its rows.

    groups: columns kept in Example.groups, which every row must have; optional: those that are kept where they are.
    """

    source: Source
    shown: str
    stem: str
    groups: Sequence[str] = ()
    optional: Sequence[str] = ()

    def format_of(self, records: Sequence[Record], told: tuple[Format, str] | None = None) -> tuple[Format, str]:
        """The format, and why: as the recipe names it, as `told`, or as the first records look. Errors: as detect."""
        named = self.source.format
        if named is not None:
            assert isinstance(named, Format)
            return named, "the recipe names it"
        return told or detect(
            [_renamed(record.value, self.source.columns) for record in records[:LOOKED_AT]], self.shown
        )

    def example(self, chosen: Format, record: Record) -> Example | BadRow:
        """What the record is in this format, or why it is nothing."""
        try:
            return self._example(chosen, record)
        except ValueError as error:
            raw = json.dumps(record.value, ensure_ascii=False, default=str)
            return BadRow(self.shown, record.row, str(error), raw)

    def renamed(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """The record under the format's keys, as the source names its columns."""
        return _renamed(record, self.source.columns)

    def refuse_missing(self, known: Sequence[str]) -> None:
        """Errors: DataError for columns that are asked for and are not among the keys of the file's records."""
        columns = self.source.columns
        _refuse_missing([column for column in columns.values() if column], known, self.shown, "columns")
        _refuse_missing([name for name in self.groups if name not in columns], known, self.shown, "groups or split_by")

    def _example(self, chosen: Format, record: Record) -> Example:
        value = _renamed(record.value, self.source.columns)
        contents = dict(chosen.contents(value))
        kept = dict(contents.pop("groups", {}))
        for name in [*self.groups, *self.optional]:
            group = record.value.get(name, value.get(name))
            if isinstance(group, (str, int, float)) and group != "":
                kept[name] = str(group)
            elif name in self.groups:
                raise ValueError(f"missing {name}" if group in (None, "") else f"wrong type: {name} is not one value")
        own = value.get("id")
        return Example(
            id=str(own) if (own and isinstance(own, str)) or type(own) is int else f"{self.stem}:{record.row}",
            parts=contents["parts"],
            origin=Origin(self.shown, record.row),
            target=contents.get("target"),
            groups=kept,
            weight=float(contents.get("weight", 1.0)) * self.source.weight,
            repeat=self.source.repeat,
        )


def _renamed(record: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The record under the format's keys; a renamed column is not there twice, `key: ""` hides the file's own key."""
    if not columns:
        return dict(record)
    moved = {*columns.values(), *columns}
    kept = {key: value for key, value in record.items() if key not in moved}
    return kept | {key: record[column] for key, column in columns.items() if column in record}


def _refuse_missing(wanted: Sequence[str], known: Sequence[str], where: str, named_in: str) -> None:
    problems = []
    for column in wanted:
        if column not in known:
            near = nearest(column, known[:1000])
            problems.append(
                Problem(
                    f"no row has the column '{column}' that {named_in} asks for",
                    where,
                    f"one of {few(known)}",
                    f"did you mean '{near}'?" if near else "name a column that is there",
                )
            )
    if problems:
        raise DataError(problems)
