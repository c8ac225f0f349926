"""What preparation did to the rows: the flow through the steps, and examples with their differences."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

__all__ = ["Change", "Flow", "difference", "examples", "flow"]

SHOWN = 3  # examples of each reason
REASONS = 12  # reasons with examples, of each step
LONGEST = 1200  # characters of one text that are compared and shown

_PIECES = re.compile(r"[ \t]+|\s|\w+|[^\w\s]")


@dataclass
class Flow:
    """One step: rows that came in and went out, and counts by reason, action and split."""

    step: str
    before: int = 0
    after: int = 0
    dropped: int = 0
    added: int = 0
    changed: int = 0
    noted: int = 0
    reasons: list[Mapping[str, Any]] = field(default_factory=list)


def flow(summary: Mapping[str, Any]) -> list[Flow]:
    """The steps in order, rows counted backward from the finished splits, so that they always add up to them."""
    steps: dict[str, Flow] = {}
    for entry in summary.get("steps", ()):
        found = steps.setdefault(str(entry["step"]), Flow(str(entry["step"])))
        count, action = int(entry["count"]), entry["action"]
        if action in ("dropped", "unread"):
            found.dropped += count
        elif action == "added":
            found.added += count
        elif action == "changed":
            found.changed += count
        else:
            found.noted += count
        found.reasons.append(entry)
    after = sum(int(rows) for rows in summary.get("splits", {}).values())
    for found in reversed(steps.values()):
        found.after = after
        found.before = after = after + found.dropped - found.added
        found.reasons.sort(key=lambda entry: -int(entry["count"]))
    return list(steps.values())


@dataclass(frozen=True)
class Change:
    """One line of the ledger, ready to be shown. `body` is escaped text with what differs marked.

    A ledger's reason is a kind, or a kind and its details after a colon.
    """

    place: str
    detail: str
    of: str | None
    body: Markup


def examples(ledger: Path) -> dict[tuple[str, str, str], list[Change]]:
    """The first lines of the ledger for each (step, action, kind of reason); empty without a ledger."""
    if not ledger.exists():
        return {}
    import pyarrow.parquet as pq

    keys = pq.read_table(ledger, columns=["step", "action", "reason"]).to_pylist()
    wanted: dict[tuple[str, str, str], list[int]] = {}
    reasons: Counter[str] = Counter()
    for index, entry in enumerate(keys):
        key = (str(entry["step"]), str(entry["action"]), str(entry["reason"]).partition(": ")[0])
        if key not in wanted:
            if reasons[key[0]] == REASONS:
                continue
            reasons[key[0]] += 1
        places = wanted.setdefault(key, [])
        if len(places) < SHOWN:
            places.append(index)
    chosen = {index for places in wanted.values() for index in places}
    rows = dict(_rows(ledger, chosen))
    others = _kept(ledger.parent, {row["of"] for row in rows.values() if row["of"]})
    return {key: [_change(rows[index], others) for index in places] for key, places in wanted.items()}


def _rows(ledger: Path, chosen: set[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The chosen rows, read batch by batch: the whole texts of a large ledger never lie in memory."""
    import pyarrow.parquet as pq

    first = 0
    columns = ["split", "action", "file", "row", "reason", "of", "before", "after"]
    for batch in pq.ParquetFile(ledger).iter_batches(batch_size=4096, columns=columns):
        here = sorted(index for index in chosen if first <= index < first + batch.num_rows)
        if here:
            yield from zip(here, batch.take([index - first for index in here]).to_pylist(), strict=True)
        first += batch.num_rows


def _kept(folder: Path, ids: set[str]) -> dict[str, str]:
    """The texts of the rows with these ids in the prepared splits, written as the ledger writes a row."""
    import pyarrow.parquet as pq

    found: dict[str, str] = {}
    for split in ("train", "validation", "test"):
        file = folder / f"{split}.parquet"
        if ids and file.exists():
            rows = pq.read_table(file, columns=["id", "parts", "target"], filters=[("id", "in", sorted(ids))])
            found |= {row["id"]: _text(json.loads(row["parts"]), json.loads(row["target"])) for row in rows.to_pylist()}
    return found


def _text(parts: Mapping[str, Any], target: Any) -> str:
    pieces = []
    for part in parts.values():
        pieces.extend([part] if isinstance(part, str) else [turn["content"] for turn in part])
    if target is not None:
        pieces.append("→ " + (" | ".join(target) if isinstance(target, list) else str(target)))
    return "\n".join(pieces)


def _change(entry: Mapping[str, Any], others: Mapping[str, str]) -> Change:
    """A changed row against what it became, and one that resembles another against that other."""
    before, after = str(entry["before"] or ""), str(entry["after"] or "")
    after = after or others.get(str(entry["of"]), "")
    body = difference(before, after) if before and after and before != after else escape(_shortened(before or after))
    place = f"{Path(str(entry['file'])).name}, row {entry['row']} ({entry['split']})"
    of = str(entry["of"]) if entry.get("of") else None
    return Change(place, str(entry["reason"]).partition(": ")[2], of, body)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + " …"


def difference(before: str, after: str) -> Markup:
    """Both texts in one, escaped: what went in <del>, what came in <ins>, long equal stretches shortened.

    Invisible characters that went or came are written as their code points, since nobody could see them.
    """
    start = _common(before, after)
    old, new = (_PIECES.findall(_shortened(text[start:])) for text in (before, after))
    out: list[str] = ["… "] if start else []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            out.append(escape(_middle("".join(old[a:b]))))
            continue
        if b > a:
            out.append(Markup("<del>{}</del>").format(_visible("".join(old[a:b]))))
        if d > c:
            out.append(Markup("<ins>{}</ins>").format(_visible("".join(new[c:d]))))
    return Markup("").join(out)


def _common(before: str, after: str) -> int:
    """Where to begin: a little before the first difference when that lies far in."""
    limit = min(len(before), len(after))
    first = next((index for index in range(limit) if before[index] != after[index]), limit)
    return first - 80 if first > 160 else 0


def _middle(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:90]} … {text[-90:]}"


def _visible(text: str) -> str:
    shown = []
    for letter in text:
        if letter == "\n":
            shown.append("⏎\n")
        elif letter.isprintable():
            shown.append(letter)
        else:
            shown.append(f"[U+{ord(letter):04X}]")
    return "".join(shown)
