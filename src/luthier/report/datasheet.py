"""The datasheet of the prepared data: what was measured of it and done to it, and what its makers say.

The sections and their order are those of Gebru et al. 2021, "Datasheets for Datasets" (arXiv:1803.09010), section 3;
the questions are told in our words. What people alone can answer comes from the recipe's `datasheet`, and where it does
not, the sheet says so: a question that is left out would look answered.
"""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.files import write_atomic
from ..core.redact import published
from .changes import flow
from .record import Record, read_record

__all__ = ["QUESTIONS", "write_datasheet"]

QUESTIONS: Mapping[str, str] = {
    "motivation": "Why the data was made, by whom, and who paid for it",
    "composition": "What a row stands for; people who appear in it, what is confidential or may offend",
    "collection": "How the rows were acquired, by whom and when, whether people agreed, and who reviewed its ethics",
    "uses": "What the data has been used for, what it may be used for, and what it must not be",
    "distribution": "Who gets the data, under which license, and what restricts it",
    "maintenance": "Who keeps the data, how to reach them, how errors are mended and rows taken out",
}
"""What only people can tell, by section."""
_CLASSES = 30
_SPECIAL = re.compile(r"([\\`*\[\]<|~])")


@dataclass
class _Measured:
    """What is counted over the rows of a split."""

    lengths: list[int] = field(default_factory=list)
    parts: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    groups: dict[str, Counter[str]] = field(default_factory=dict)
    synthetic: int = 0


def write_datasheet(folder: Path) -> Path | None:
    """Writes `data/datasheet.md` of a run folder and returns its path; it quotes no row.

    None, and nothing is written, where the folder has no prepared data (the parent of repetitions).
    Errors: DataError when the folder is no run folder or a file in it is damaged.
    """
    record = read_record(folder)
    if not record.summary:
        return None
    splits = {
        name: _measure(record.folder / "data" / f"{name}.parquet")
        for name in record.summary.get("splits", {})
        if (record.folder / "data" / f"{name}.parquet").is_file()
    }
    path = record.folder / "data" / "datasheet.md"
    write_atomic(path, "\n".join(published(list(_lines(record, splits)))).encode("utf-8", "replace"))
    return path


def _measure(file: Path) -> _Measured:
    import pyarrow.parquet as pq

    found = _Measured()
    columns = ["parts", "target", "groups", "synthetic"]
    for batch in pq.ParquetFile(file).iter_batches(columns=columns):
        for row in batch.to_pylist():
            parts, target = json.loads(row["parts"]), json.loads(row["target"])
            texts = [turn.get("content") or "" for turn in parts["messages"]] if "messages" in parts else []
            texts += [part for part in parts.values() if isinstance(part, str)]
            found.lengths.append(sum(map(len, texts)))
            found.parts[", ".join(parts)] += 1
            found.synthetic += row["synthetic"]
            if isinstance(target, str):
                found.classes[target] += 1
            elif isinstance(target, list) and "messages" not in parts:
                found.classes.update(target)
            for name, value in json.loads(row["groups"]).items():
                found.groups.setdefault(name, Counter())[value] += 1
    return found


def _lines(record: Record, splits: Mapping[str, _Measured]) -> Iterator[str]:
    told: Mapping[str, str] = record.recipe.get("datasheet") or {}
    yield f"# Datasheet: {_plain(record.name)}"
    yield ""
    yield "Sections after Gebru et al. 2021 (arXiv:1803.09010). Numbers were measured by the run that prepared the"
    yield "data; what is quoted was told by its makers in the recipe."
    yield from _section("Motivation", "motivation", told)
    yield from _section("Composition", "composition", told)
    yield from _composition(record, splits)
    yield from _section("Collection", "collection", told)
    yield from _sources(record)
    yield from ("", "## Preprocessing, cleaning, labeling", "")
    yield from _preprocessing(record)
    for title in ("Uses", "Distribution", "Maintenance"):
        yield from _section(title, title.lower(), told)
    yield ""


def _section(title: str, key: str, told: Mapping[str, str]) -> Iterator[str]:
    yield from ("", f"## {title}", "", f"*{QUESTIONS[key]}.*", "")
    answer = told.get(key)
    if answer is None:
        yield f"Not told: `datasheet: {{{key}: ...}}` in the recipe answers it."
    else:
        yield from (f"> {_plain(line)}" for line in answer.strip().splitlines())


def _composition(record: Record, splits: Mapping[str, _Measured]) -> Iterator[str]:
    yield from (
        "",
        "| split | rows | synthetic | characters, median | least | most |",
        "|---|---:|---:|---:|---:|---:|",
    )
    for name, found in splits.items():
        lengths = found.lengths or [0]
        middle = statistics.median(lengths)
        sizes = f"{middle:,.0f} | {min(lengths):,} | {max(lengths):,}"
        yield f"| {_plain(name)} | {len(found.lengths):,} | {found.synthetic:,} | {sizes} |"
    total = sum((found.parts for found in splits.values()), Counter[str]())
    parts = "; ".join(f"{_plain(names)} ({count:,} rows)" for names, count in total.most_common())
    yield from ("", f"A row holds: {parts or 'nothing'}.")
    classes = sum((found.classes for found in splits.values()), Counter[str]())
    if classes:
        yield from ("", *_counts("class", classes, splits, lambda found: found.classes))
    for group in dict.fromkeys(name for found in splits.values() for name in found.groups):
        total = sum((found.groups.get(group, Counter()) for found in splits.values()), Counter[str]())
        if len(total) <= _CLASSES:
            yield from ("", *_counts(f"group {group}", total, splits, _of_group(group)))
        else:  # customers or authors, perhaps: how they are spread says enough
            least, most = min(total.values()), max(total.values())
            spread = f"{len(total):,} values of {least:,}{f' to {most:,}' if most > least else ''} rows"
            yield from ("", f"Group {_plain(group)}: {spread}.")
    unread = record.summary.get("unread", 0)
    if unread:
        yield from ("", f"{unread:,} rows could not be read; the ledger names each of them with its reason.")


def _of_group(name: str) -> Any:
    return lambda found: found.groups.get(name, Counter())


def _counts(what: str, total: Counter[str], splits: Mapping[str, _Measured], of: Any) -> Iterator[str]:
    """A table of the most frequent values of a class or group, by split."""
    yield f"| {_plain(what)} | " + " | ".join(map(_plain, splits)) + " |"
    yield "|---|" + "---:|" * len(splits)
    for value, _ in total.most_common(_CLASSES):
        yield f"| {_plain(value)} | " + " | ".join(f"{of(found)[value]:,}" for found in splits.values()) + " |"
    if len(total) > _CLASSES:
        rest = total.most_common()[_CLASSES:]
        yield (
            f"| {len(rest)} more | "
            + " | ".join(f"{sum(of(found)[value] for value, _ in rest):,}" for found in splits.values())
            + " |"
        )


def _sources(record: Record) -> Iterator[str]:
    inputs = record.part("inputs")
    if inputs:
        yield from ("", "| read from | rows | bytes | SHA-256 | read as |", "|---|---:|---:|---|---|")
    formats = record.summary.get("formats", {})
    for path, item in inputs.items():
        read = formats.get(path, {})
        because = f"{read['format']}: {read['because']}" if read else ""
        size = f"{item.get('rows', 0):,} | {item.get('bytes', 0):,} | `{str(item.get('sha256', ''))[:16]}`"
        yield f"| {_plain(path)} | {size} | {_plain(because)} |"


def _preprocessing(record: Record) -> Iterator[str]:
    steps = flow(record.summary)
    if not steps:
        yield "No step changed the rows after they were read and split."
    else:
        yield "Every row that left, changed or came in stands in `data/ledger.parquet` with its reason and what it was."
        yield from ("", "| step | rows in | removed | added | changed | noted | rows out |")
        yield "|---|---:|---:|---:|---:|---:|---:|"
    for step in steps:
        numbers = (step.before, step.dropped, step.added, step.changed, step.noted, step.after)
        yield f"| {_plain(step.step)} | " + " | ".join(f"{number:,}" for number in numbers) + " |"
    reasons = [(step.step, reason) for step in steps for reason in step.reasons]
    if reasons:
        yield from ("", "| step | split | what was done | why | rows |", "|---|---|---|---|---:|")
    for name, reason in reasons:
        cells = (name, reason["split"], reason["action"], reason["reason"])
        yield "| " + " | ".join(_plain(cell) for cell in cells) + f" | {reason['count']:,} |"
    for found in record.summary.get("facts", ()):
        yield from ("", f"{_plain(found['step'])} measured on {_plain(found['split'])}:", "")
        yield from _facts(found["facts"], 0)


def _facts(value: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Nested plain values as a list."""
    for key, item in value.items():
        start = "  " * depth + f"- {_plain(str(key).replace('_', ' '))}:"
        if isinstance(item, Mapping):
            yield start
            yield from _facts(item, depth + 1)
        elif isinstance(item, Sequence) and not isinstance(item, str):
            yield f"{start} {_plain(json.dumps(item, ensure_ascii=False))[:400]}"
        else:
            yield f"{start} {_plain(f'{item:.4g}' if isinstance(item, float) else item)}"


def _plain(value: Any) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))
