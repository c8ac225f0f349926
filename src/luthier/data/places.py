"""What is known of a source's place before it is read: that it is there, may be read, and holds data files."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..core.database import is_address
from ..core.embedded import PREFIX, embedded_data
from ..core.errors import LuthierError, MissingExtra, Problem, nearest
from .hub import folder_of, looks_like_hub, split_problems
from .records import data_suffix
from .sql import address_problems

__all__ = ["absent", "closed", "data_files", "folder_problems", "no_file", "path_problems"]

_SPLIT = re.compile(r"(?:^|/)(train|test|validation|valid|val|dev|eval)(?![a-z])", re.IGNORECASE)
"""The split that a file or a folder in a folder is named for."""
_NOT_DATA = ("readme", "license", "licence", "notice", "changelog")


def path_problems(path: str) -> Sequence[Problem]:
    """What can be known to be wrong with a source's path before it is read or fetched; empty where nothing is."""
    try:
        if path.startswith(PREFIX):
            embedded_data(path)
        elif is_address(path):
            return address_problems(path)
        elif folder_of(path) is not None:
            if importlib.util.find_spec("datasets") is None:
                raise MissingExtra.of("hub", f"the folder '{path}' in the manner of the package datasets")
            return split_problems(path)
        elif Path(path).is_dir():
            return folder_problems(Path(path), path)
        elif Path(path).is_file():
            return () if os.access(path, os.R_OK) else (closed(path),)
        elif Path(path).exists() or Path(path).is_symlink():
            return (no_file(path),)
        else:
            if not looks_like_hub(path):
                return (absent(path),)
            if importlib.util.find_spec("datasets") is None:
                raise MissingExtra.of("hub", f"'{path}' is no file here; the hub data set of that name")
    except LuthierError as error:
        return error.problems
    return ()


def absent(shown: str) -> Problem:
    """There is nothing of that name."""
    path = Path(shown)
    beside = sorted(file.name for file in path.parent.iterdir()) if path.parent.is_dir() else []
    near = nearest(path.name, beside)
    return Problem(
        "there is no such file or folder",
        shown,
        "a file, a folder, embedded:NAME, or owner/name[:configuration][@revision][#split] of the hub",
        f"did you mean '{path.parent / near}'?" if near else f"see whether the path is right from {Path.cwd()}",
    )


def no_file(shown: str) -> Problem:
    """What is there is neither a file nor a folder."""
    if Path(shown).exists():
        found, remedy = "this is a pipe or a device, not a file", "write its content to a file and name that"
    else:
        found, remedy = "this link leads nowhere", "name the file itself, or mend the link"
    return Problem(found, shown, "a file or a folder that can be read more than once", remedy)


def closed(shown: str) -> Problem:
    """It is there, and may not be read."""
    return Problem(
        "there is no right to read it",
        shown,
        "a file or folder that the account may read",
        "chmod u+r, or name a copy of your own",
    )


def folder_problems(folder: Path, shown: str) -> Sequence[Problem]:
    """What is wrong with a folder of data; empty where nothing is."""
    try:
        found = data_files(folder)
    except OSError as error:
        return (closed(str(error.filename or shown)),)
    splits: dict[str, str] = {}
    for file in found:
        split = _SPLIT.search(file)
        if split:
            splits.setdefault(split[1].lower(), file)
    if "train" in splits and len(splits) > 1:
        return (
            Problem(
                f"the folder holds several splits: {', '.join(splits.values())}",
                shown,
                "rows to learn from and rows to measure on apart",
                f"name the files, or name one: {shown.rstrip('/')}#train (needs the extra 'hub')",
            ),
        )
    if found:
        return ()
    return (
        Problem(
            "the folder holds no data file",
            shown,
            "files that end in .jsonl, .json, .csv, .tsv, .parquet, .conll, .txt or .md, also as .gz, .xz or .zst",
            "name the folder in which they lie; files that begin with a dot, README and LICENSE are passed over",
        ),
    )


def data_files(folder: Path) -> list[str]:
    """The data files below a folder, by their path in it. Errors: OSError for a folder that cannot be looked into."""

    def refuse_to_pass_over(error: OSError) -> None:
        raise error

    found = [
        (Path(place) / name).relative_to(folder)
        for place, _, names in os.walk(folder, onerror=refuse_to_pass_over)
        for name in names
    ]
    return sorted(
        file.as_posix()
        for file in found
        if (folder / file).is_file()
        and data_suffix(file.name)
        and not any(part.startswith(".") for part in file.parts)
        and not file.name.lower().startswith(_NOT_DATA)
    )
