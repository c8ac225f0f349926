"""Decisions that people make about rows: written one a line as they come, read back, and settled where they differ.

A decision belongs to the row as it was shown, by a digest of its content: of a row that has changed since, nothing is
settled. Of a reviewer's decisions about the same content the last one counts; one that adjudicates counts alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from ..core.errors import DataError
from ..core.example import Example
from ..core.files import writing

__all__ = [
    "Action",
    "Decision",
    "Rule",
    "Settled",
    "add_decision",
    "decision_of",
    "digest_of",
    "queue",
    "read_decisions",
    "settled",
]

Action = Literal["keep", "drop", "relabel", "edit"]
Rule = Literal["majority", "unanimous"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a reviewer decided: row and digest of its content, and for relabel the target, for edit the parts.

    digest: empty where someone decided by hand, whatever the content. final: the decision adjudicates between others.
    """

    id: str
    reviewer: str
    action: Action
    digest: str = ""
    target: Any = None
    parts: Mapping[str, Any] | None = None
    reason: str = ""
    final: bool = False

    @property
    def value(self) -> str:
        """What was decided, as one text: equal where two reviewers agree."""
        what = {"relabel": self.target, "edit": self.parts}.get(self.action)
        return self.action if what is None else f"{self.action} {json.dumps(what, sort_keys=True, ensure_ascii=False)}"


@dataclass(frozen=True, slots=True)
class Settled:
    """What holds for a row: the decision, None where reviewers disagree; and all that count."""

    decision: Decision | None
    votes: Sequence[Decision]

    @property
    def tally(self) -> str:
        """The votes in words: 2 drop, 1 keep."""
        counted = Counter(vote.action for vote in self.votes)
        return ", ".join(f"{count} {action}" for action, count in counted.most_common())


def digest_of(example: Example) -> str:
    """Digest of what a reviewer sees: parts and target."""
    plain = example.to_json()
    content = json.dumps([plain["parts"], plain["target"]], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def add_decision(path: Path, decision: Decision) -> None:
    """Adds a line to the file and waits until it is on the disk. Errors: MachineError where it cannot be written."""
    given = {key: value for key, value in asdict(decision).items() if value not in (None, "", False)}
    with writing("file of decisions", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            file.seek(0)
            whole, _, torn = file.read().rpartition(b"\n")
            if torn and _is_decision(torn):
                file.write(b"\n")
            elif torn:  # by a crash: its row is asked about again
                file.truncate(len(whole) + 1 if whole else 0)
            file.write((json.dumps(given, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass"))
            file.flush()
            os.fsync(file.fileno())


def _is_decision(line: bytes) -> bool:
    try:
        decision_of(json.loads(line))
    except ValueError:
        return False
    return True


def read_decisions(path: Path) -> list[Decision]:
    """The decisions in a file, in their order; a last line that was cut short is passed over.

    Errors: DataError for a file that is absent or cannot be read, and for a line that is no decision.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the decisions cannot be read: {error}",
            where=str(path),
            expected="what `luthier data review` wrote",
        ) from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(decision_of(json.loads(line)))
        except ValueError as error:
            if number == len(lines):
                break
            raise DataError(
                f"the line is no decision: {error}",
                where=f"{path}:{number}",
                expected='{"id", "reviewer", "action"}, as `luthier data review` writes it',
                remedy="mend or remove the line",
            ) from error
    return found


def decision_of(value: Any) -> Decision:
    """The decision in a plain value. Errors: ValueError that says what is wrong with it."""
    if not isinstance(value, dict):
        raise ValueError("not an object")
    known = {item.name for item in fields(Decision)}
    for key in ("id", "reviewer", "action"):
        if not isinstance(value.get(key), str) or not value[key]:
            raise ValueError(f"missing {key}")
    if value["action"] not in get_args(Action):
        raise ValueError(f"unknown action '{value['action']}', not one of {', '.join(get_args(Action))}")
    if value["action"] == "edit" and not isinstance(value.get("parts"), dict):
        raise ValueError("an edit without parts")
    if value["action"] == "relabel" and value.get("target") is None:
        raise ValueError("a new label is missing: target")
    return Decision(**{key: item for key, item in value.items() if key in known})


def _counting(decisions: Iterable[Decision]) -> dict[tuple[str, str], list[Decision]]:
    """By row and content: the decisions that count."""
    last: dict[tuple[str, str], dict[str, Decision]] = defaultdict(dict)
    for decision in decisions:
        last[decision.id, decision.digest][decision.reviewer] = decision
    return {
        key: [vote for vote in votes.values() if vote.final][-1:] or list(votes.values()) for key, votes in last.items()
    }


def settled(decisions: Iterable[Decision], rule: Rule = "majority") -> dict[tuple[str, str], Settled]:
    """What holds for each row (id and digest): what more than half of its reviewers decided, or all of them."""
    found = {}
    for key, votes in _counting(decisions).items():
        value, count = Counter(vote.value for vote in votes).most_common(1)[0]
        enough = count == len(votes) if rule == "unanimous" else 2 * count > len(votes)
        decision = next(vote for vote in votes if vote.value == value) if enough else None
        found[key] = Settled(decision, votes)
    return found


def queue(
    examples: Sequence[Example],
    decisions: Sequence[Decision],
    reviewer: str,
    *,
    notes: Mapping[str, Sequence[str]] | None = None,
    adjudicate: bool = False,
    seed: int = 1,
) -> list[Example]:
    """Rows that this reviewer has not decided about, what is most worth a look first.

    First rows about which others disagree, then by how many notes steps made of them (label conflict, low quality,
    possible bias), then in an order drawn from the seed. adjudicate: only rows on which reviewers disagree.
    """
    held = settled(decisions, "unanimous")
    mine = {
        (each.id, each.digest) for each in decisions if each.reviewer == reviewer and (each.final or not adjudicate)
    }
    draw = random.Random(seed)
    ranked = []
    for example in examples:
        chance, key = draw.random(), (example.id, digest_of(example))
        split = key in held and held[key].decision is None
        if key not in mine and (split or not adjudicate):
            ranked.append((not split, -len((notes or {}).get(example.id, ())), chance, example))
    return [example for *_, example in sorted(ranked, key=lambda item: item[:3])]
