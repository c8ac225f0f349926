"""From sources to examples: files, folders, embedded data, hub data sets and databases, by content and name.

A path in messages, ids and origins is the one that the recipe gave. An example's id is the record's own "id" where it
has one (text or a whole number), else the file's name (its path, where an earlier file has that name) and the row,
"train:17"; the content does not change it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ..core.component import Component
from ..core.contracts import Format
from ..core.embedded import PREFIX, embedded_data
from ..core.errors import DataError, Problem, nearest
from ..core.example import Example, Origin
from ..core.recipe import Source
from ..core.redact import redact
from .detect import FormatFact, detect, few, unfolded
from .hub import hub_records, looks_like_hub
from .places import absent, closed, data_files, folder_problems, no_file
from .records import data_suffix, records
from .row import BadRow, Record
from .sql import sql_rows
from .unpack import refuse_beyond_memory

__all__ = ["BadRow", "FileFact", "FormatFact", "Read", "read", "refuse"]

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class FileFact:
    """What a file was when it was read; `rows` counts those that could not be read as well."""

    path: str
    sha256: str
    bytes: int
    rows: int


@dataclass
class Read:
    """What reading gave: examples, rows that could not be read, the files, and the format of each."""

    examples: list[Example] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    files: list[FileFact] = field(default_factory=list)
    formats: list[FormatFact] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _File:
    """A file's rows and facts before a format has looked at them; `stem` begins the ids of its rows.

    told: the format that found the rows in the file, and why, where one had to.
    """

    shown: str
    stem: str
    rows: list[Record | BadRow]
    sha256: str
    size: int
    told: tuple[Format, str] | None = None


def read(
    sources: Sequence[Source],
    *,
    bad_rows: Literal["stop", "quarantine"] = "stop",
    split_by: str | None = None,
    groups: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> Read:
    """Reads all sources in order.

    `split_by` and `groups` name columns kept in Example.groups, and must be there; those in `optional` are kept where
    they are. Errors: DataError for an absent file, an unrecognized format, a missing column, ids that come twice, no
    row at all, and with bad_rows "stop" for rows that cannot be read: all counted, the first five shown.
    """
    result = Read()
    stems: set[str] = set()
    columns = dict.fromkeys([*groups, *([split_by] if split_by else [])])
    for source in sources:
        left = source.limit
        for file in _files(source):
            file = replace(file, stem=_own_stem(file, stems))
            rows = file.rows if left is None else file.rows[:left]
            left = None if left is None else left - len(rows)
            result.files.append(FileFact(file.shown, file.sha256, file.size, len(rows)))
            _examples(result, source, file, rows, tuple(columns), optional)
            if left == 0:
                break
    _set_doubles_aside(result)
    if not result.examples:
        raise _nothing_left(result.bad, ", ".join(source.path for source in sources))
    if bad_rows == "stop":
        refuse(result.bad)
    return result


def _own_stem(file: _File, taken: set[str]) -> str:
    """The beginning of the file's ids: its name, or its path where an earlier file has the same name."""
    stem = file.stem if file.stem not in taken else file.shown
    taken.add(stem)
    return stem


def refuse(bad: Sequence[BadRow]) -> None:
    """Errors: DataError that counts the rows and shows the first five, where there are any."""
    if not bad:
        return
    remedies = dict.fromkeys(row.remedy for row in bad[:_SHOWN] if row.remedy)
    raise DataError(
        f"{len(bad)} {'row' if len(bad) == 1 else 'rows'} cannot be read:{_listed(bad)}",
        remedy="; ".join([*remedies, "mend the rows"][:3])
        + ", or set them aside and go on with bad_rows: quarantine (the ledger keeps them)",
    )


def _listed(bad: Sequence[BadRow]) -> str:
    """The first five rows, each on a line of its own."""
    more = len(bad) - _SHOWN
    return "".join(f"\n  {row}" for row in bad[:_SHOWN]) + (f"\n  and {more} more" if more > 0 else "")


def _nothing_left(bad: Sequence[BadRow], where: str) -> DataError:
    if not bad:
        return DataError(
            "there is no row",
            where=where,
            expected="at least one row",
            remedy="fill the file, or name another; was it written or fetched to its end?",
        )
    whole = "the only row cannot" if len(bad) == 1 else f"not one of the {len(bad)} rows can"
    return DataError(
        f"{whole} be read:{_listed(bad)}",
        where=where,
        expected="rows as the file's name says, or as the format that was told or named",
        remedy=bad[0].remedy
        or "mend the rows; if the file is of another kind, give it its usual ending or name its format",
    )


def _set_doubles_aside(result: Read) -> None:
    """Of rows with one id the first stays; the others become rows that cannot be read."""
    first: dict[str, Example] = {}
    doubles: list[BadRow] = []
    for example in result.examples:
        kept = first.setdefault(example.id, example)
        if kept is not example:
            doubles.append(
                BadRow(
                    example.origin.file,
                    example.origin.row,
                    f"double id: the id '{example.id}' comes twice: at {kept.origin} and at {example.origin}",
                    str(example),
                    "name another column, columns: {id: COLUMN}, or have rows numbered, columns: {id: ''}",
                )
            )
    if doubles:
        result.examples = list(first.values())
        result.bad.extend(doubles)
        _sort(result)


def _sort(result: Read) -> None:
    places = {fact.path: number for number, fact in reversed(list(enumerate(result.files)))}
    result.bad.sort(key=lambda bad: (places[bad.file], bad.row))


def _files(source: Source) -> Iterator[_File]:
    path = Path(source.path)
    if source.query is not None:
        stem, found = sql_rows(source.path, source.query, source.limit)
        yield _of_values(redact(source.path), stem, found)
    elif source.path.startswith(PREFIX):
        yield _load(embedded_data(source.path), source.path, source.path.removeprefix(PREFIX), source.format)
    elif path.is_dir():
        yield from _folder(path, source.path, source.format)
    elif path.is_file():
        yield _load(path, source.path, _stem(path.name), source.format)
    elif path.exists() or path.is_symlink():
        raise DataError(no_file(source.path))
    elif looks_like_hub(source.path):
        rows = [Record(number, row) for number, row in enumerate(hub_records(source.path), 1)]
        yield _of_values(source.path, source.path, rows)
    else:
        raise DataError(absent(source.path))


def _of_values(shown: str, stem: str, rows: Sequence[Record | BadRow]) -> _File:
    """Rows that came as values and not as a file's bytes."""
    values = [row.value if isinstance(row, Record) else row.reason for row in rows]
    text = "\n".join(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str) for value in values).encode()
    return _File(shown, stem, list(rows), hashlib.sha256(text).hexdigest(), len(text))


def _folder(folder: Path, shown: str, chosen: Component | None) -> Iterator[_File]:
    problems = folder_problems(folder, shown)
    if problems:
        raise DataError(problems)
    for relative in data_files(folder):
        yield _load(folder / relative, f"{shown.rstrip('/')}/{relative}", _stem(relative), chosen)


def _stem(name: str) -> str:
    suffix = data_suffix(name)
    return name[: name.lower().rindex(suffix)] if suffix else Path(name).stem


def _load(path: Path, shown: str, stem: str, chosen: Component | None) -> _File:
    try:
        refuse_beyond_memory(path.stat().st_size, shown)
        data = path.read_bytes()
    except PermissionError as error:
        raise DataError(closed(shown)) from error
    except OSError as error:
        raise DataError(
            f"the file cannot be opened: {error.strerror}", where=shown, remedy="see whether the disk can be read"
        ) from error
    # An embedded file's kind stands in its own name, not in the one that the recipe uses.
    kind = chosen.file_kind if isinstance(chosen, Format) else None
    rows: list[Record | BadRow] = [
        replace(row, file=shown) if isinstance(row, BadRow) else row
        for row in records(data, path.name if shown.startswith(PREFIX) else shown, kind)
    ]
    only = rows[0] if len(rows) == 1 else None
    told = None
    if isinstance(only, Record) and (found := unfolded(only.value, chosen)):
        told, many = found[:2], found[2]
        rows = [Record(number, value) for number, value in enumerate(many, 1)]
    return _File(shown, stem, rows, hashlib.sha256(data).hexdigest(), len(data), told)


def _examples(
    result: Read,
    source: Source,
    file: _File,
    rows: Sequence[Record | BadRow],
    groups: Sequence[str],
    optional: Sequence[str],
) -> None:
    """Adds the examples and bad rows of one file to the result."""
    good = [row for row in rows if isinstance(row, Record)]
    result.bad.extend(row for row in rows if isinstance(row, BadRow))
    if not good:
        return
    known = list(dict.fromkeys(key for record in good for key in record.value))
    _refuse_missing([column for column in source.columns.values() if column], known, file.shown, "columns")
    renamed = [_renamed(record.value, source.columns) for record in good]
    _refuse_missing([name for name in groups if name not in source.columns], known, file.shown, "groups or split_by")
    if source.format is not None:
        chosen, because = source.format, "the recipe names it"
    else:
        chosen, because = file.told or detect(renamed, file.shown)
    assert isinstance(chosen, Format)
    result.formats.append(FormatFact(file.shown, chosen.component_name(), because))
    for record, value in zip(good, renamed, strict=True):
        try:
            example = _example(chosen, value, record, source, file, groups, optional)
        except ValueError as error:
            raw = json.dumps(record.value, ensure_ascii=False, default=str)
            result.bad.append(BadRow(file.shown, record.row, str(error), raw))
        else:
            result.examples.append(example)
    _sort(result)


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


def _example(
    chosen: Format,
    value: Mapping[str, Any],
    record: Record,
    source: Source,
    file: _File,
    groups: Sequence[str],
    optional: Sequence[str],
) -> Example:
    contents = dict(chosen.contents(value))
    kept = dict(contents.pop("groups", {}))
    for name in [*groups, *optional]:
        group = record.value.get(name, value.get(name))
        if isinstance(group, (str, int, float)) and group != "":
            kept[name] = str(group)
        elif name in groups:
            raise ValueError(f"missing {name}" if group in (None, "") else f"wrong type: {name} is not one value")
    own = value.get("id")
    return Example(
        id=str(own) if (own and isinstance(own, str)) or type(own) is int else f"{file.stem}:{record.row}",
        parts=contents["parts"],
        origin=Origin(file.shown, record.row),
        target=contents.get("target"),
        groups=kept,
        weight=float(contents.get("weight", 1.0)) * source.weight,
        repeat=source.repeat,
    )
