"""Data sets of the Hugging Face hub: owner/name[:configuration][@revision][#split], through the package `datasets`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import DataError, MissingExtra, first_line
from .records import data_suffix

__all__ = ["hub_records", "looks_like_hub"]

_ID = re.compile(
    r"(?P<id>[\w.-]+/[\w.-]+)(?::(?P<configuration>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?(?:#(?P<split>[\w.-]+))?"
)


def looks_like_hub(path: str) -> bool:
    """Whether a path that is no file can be meant as a hub id: owner/name, no data file's ending, no folder `owner`."""
    match = _ID.fullmatch(path)
    return (
        bool(match and not path.startswith(".") and data_suffix(match["id"]) is None)
        and not Path(path.partition("/")[0]).is_dir()
    )


def hub_records(path: str) -> Sequence[Mapping[str, Any]]:
    """The rows of a hub data set; the split is `train` unless named. Classes and tags come by their names.

    Errors: MissingExtra without the package; DataError where the hub does not answer or does not know the data set.
    """
    match = _ID.fullmatch(path)
    assert match is not None, path
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra.of("hub", f"the hub data set {path}") from error
    try:
        loaded = datasets.load_dataset(
            match["id"], match["configuration"], split=match["split"] or "train", revision=match["revision"]
        )
        return [_named(row, loaded.features) for row in loaded]
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"there is no such file, and the hub gave no data set of that name: {first_line(error)}",
            where=path,
            expected="a file, a folder, embedded:NAME, or owner/name[:configuration][@revision][#split] of the hub",
            remedy="without a network: on a machine that has one, "
            f"datasets.load_dataset({match['id']!r}, split={match['split'] or 'train'!r}).to_parquet('rows.parquet'), "
            "copy the file here and give its path",
        ) from error


def _named(row: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
    """The row with names in place of the numbers of classes, alone or in lists, as the data set itself names them."""
    named = dict(row)
    for column, feature in features.items():
        kind = getattr(feature, "feature", feature)  # of a list, what its items are
        names = getattr(kind, "names", None)
        if names is not None:
            named[column] = _name(row[column], names)
    return named


def _name(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_name(item, names) for item in value]
    return names[value] if type(value) is int and 0 <= value < len(names) else value
