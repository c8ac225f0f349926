"""From sources to examples: files, folders, embedded data, hub data sets and databases, by content and name.

A path in messages, ids and origins is the one that the recipe gave. An example's id is the record's own "id" where it
has one (text or a whole number), else the file's name (its path, where an earlier file has that name) and the row,
"train:17"; the content does not change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal

from ..core.contracts import Format
from ..core.errors import DataError
from ..core.example import Example
from ..core.recipe import Source
from .detect import FormatFact
from .reading import Reading
from .row import BadRow, Record
from .source_files import Place, file_places

__all__ = ["SHOWN", "BadRow", "FileFact", "FormatFact", "Read", "double", "nothing_left", "own_stem", "read", "refuse"]

SHOWN = 5
"""Rows that cannot be read which a message shows."""


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
    result, by_file = Read(), list[tuple[list[Example], list[BadRow]]]()
    stems: set[str] = set()
    columns = dict.fromkeys([*groups, *([split_by] if split_by else [])])
    for source in sources:
        left = source.limit
        for place in file_places(source):
            file, stem = place.load(), own_stem(place, stems)
            rows = file.rows if left is None else file.rows[:left]
            left = None if left is None else left - len(rows)
            result.files.append(FileFact(place.shown, file.sha256, file.size, len(rows)))
            by_file.append(_rows(result, rows, file.told, Reading(source, place.shown, stem, tuple(columns), optional)))
            if left == 0:
                break
    _set_doubles_aside(by_file)
    for examples, bad in by_file:
        result.examples.extend(examples)
        result.bad.extend(sorted(bad, key=attrgetter("row")))
    if not result.examples:
        raise nothing_left(result.bad, ", ".join(source.path for source in sources))
    if bad_rows == "stop":
        refuse(result.bad)
    return result


def own_stem(file: Place, taken: set[str]) -> str:
    """The beginning of the file's ids: its name, or its path where an earlier file has the same name."""
    stem = file.stem if file.stem not in taken else file.shown
    taken.add(stem)
    return stem


def refuse(bad: Sequence[BadRow], count: int | None = None) -> None:
    """Errors: DataError that counts the rows and shows the first five, where there are any.

    count: how many there are, where `bad` holds the first only.
    """
    if not bad:
        return
    count = count or len(bad)
    remedies = dict.fromkeys(row.remedy for row in bad[:SHOWN] if row.remedy)
    raise DataError(
        f"{count} {'row' if count == 1 else 'rows'} cannot be read:{_listed(bad, count)}",
        remedy="; ".join([*remedies, "mend the rows"][:3])
        + ", or set them aside and go on with bad_rows: quarantine (the ledger keeps them)",
    )


def _listed(bad: Sequence[BadRow], count: int) -> str:
    """The first five rows, each on a line of its own."""
    more = count - SHOWN
    return "".join(f"\n  {row}" for row in bad[:SHOWN]) + (f"\n  and {more} more" if more > 0 else "")


def nothing_left(bad: Sequence[BadRow], where: str, count: int | None = None) -> DataError:
    """Not one row could be read; count: how many there are where `bad` holds the first only."""
    if not bad:
        return DataError(
            "there is no row",
            where=where,
            expected="at least one row",
            remedy="fill the file, or name another; was it written or fetched to its end?",
        )
    count = count or len(bad)
    whole = "the only row cannot" if count == 1 else f"not one of the {count} rows can"
    return DataError(
        f"{whole} be read:{_listed(bad, count)}",
        where=where,
        expected="rows as the file's name says, or as the format that was told or named",
        remedy=bad[0].remedy
        or "mend the rows; if the file is of another kind, give it its usual ending or name its format",
    )


def _set_doubles_aside(by_file: Sequence[tuple[list[Example], list[BadRow]]]) -> None:
    """Of rows with one id the first stays; the others become rows that cannot be read."""
    first: dict[str, Example] = {}
    for examples, bad in by_file:
        kept = [example for example in examples if first.setdefault(example.id, example) is example]
        if len(kept) < len(examples):
            bad.extend(double(first[example.id], example) for example in examples if first[example.id] is not example)
            examples[:] = kept


def double(kept: Example, example: Example) -> BadRow:
    """The refusal of a row whose id an earlier one has."""
    return BadRow(
        example.origin.file,
        example.origin.row,
        f"double id: the id '{example.id}' comes twice: at {kept.origin} and at {example.origin}",
        str(example),
        "name another column, columns: {id: COLUMN}, or have rows numbered, columns: {id: ''}",
    )


def _rows(
    result: Read, rows: Sequence[Record | BadRow], told: tuple[Format, str] | None, file: Reading
) -> tuple[list[Example], list[BadRow]]:
    """The examples and bad rows of one file."""
    good = [row for row in rows if isinstance(row, Record)]
    bad = [row for row in rows if isinstance(row, BadRow)]
    if not good:
        return [], bad
    file.refuse_missing(list(dict.fromkeys(key for record in good for key in record.value)))
    chosen, because = file.format_of(good, told)
    result.formats.append(FormatFact(file.shown, chosen.component_name(), because))
    found = [file.example(chosen, record) for record in good]
    bad.extend(one for one in found if isinstance(one, BadRow))
    return [one for one in found if isinstance(one, Example)], bad
