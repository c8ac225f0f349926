"""Findings set beside each other: one row a metric, base against tuned, and the run's verdict in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from ..core.errors import Problem
from ..core.evidence import Finding
from ..core.gates import parse
from .record import Record
from .words import interval, number, probability, signed

__all__ = ["Compared", "Judgement", "compare", "headline", "judgement_words", "never_found"]

Judgement = Literal["better", "worse", "unclear", "neutral", "untold"]

_WORDS = {
    "better": "better",
    "worse": "worse",
    "unclear": "no clear change",
    "neutral": "changed",
    "untold": "",
}


@dataclass
class Compared:
    """All findings of one metric (and group), by subject."""

    check: str
    metric: str
    group: str | None
    subjects: dict[str, Finding] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The metric as gates name it, with its group."""
        return f"{self.check}.{self.metric}" + (f" ({self.group})" if self.group else "")

    @property
    def base(self) -> Finding | None:
        """The base's finding, where there is one."""
        return self.subjects.get("base")

    @property
    def tuned(self) -> Finding | None:
        """The tuned model's finding, where there is one."""
        return self.subjects.get("tuned")

    @property
    def others(self) -> list[Finding]:
        """Subjects beside base, tuned and their change: merged, reloaded."""
        return [f for name, f in self.subjects.items() if name not in ("base", "tuned", "change")]

    @property
    def better(self) -> str:
        """The direction of the metric: higher, lower or neither."""
        return next(iter(self.subjects.values())).better

    @cached_property
    def change(self) -> Finding | None:
        """The paired change, as measured; without one, the plain difference, which has no interval."""
        measured = self.subjects.get("change")
        if measured is not None or self.base is None or self.tuned is None:
            return measured
        difference = self.tuned.value - self.base.value
        n = min(self.base.n, self.tuned.n)
        return Finding(self.check, self.metric, "change", difference, None, None, n, self.tuned.better, self.group)

    @property
    def judgement(self) -> Judgement:
        """Whether the change is for the better: told only where its interval leaves zero out."""
        change = self.change
        if change is None or change.low is None or change.high is None or math.isnan(change.value):
            return "untold"
        if change.low <= 0 <= change.high:
            return "unclear"
        if self.better == "neither":
            return "neutral"
        return "better" if (change.low > 0) == (self.better == "higher") else "worse"

    @property
    def p(self) -> float | None:
        """The p of the change; without one that of tuned, if any."""
        change = self.subjects.get("change")
        found = change.p if change else None
        return found if found is not None else self.tuned.p if self.tuned else None

    @property
    def n(self) -> int:
        """The most rows that any subject was measured on."""
        return max(finding.n for finding in self.subjects.values())

    @property
    def notes(self) -> list[str]:
        """Notes on the measured models, each once, with the subjects where it is not about all of them."""
        notes: dict[str, list[str]] = {}
        measured = {name: finding for name, finding in self.subjects.items() if name != "change"}
        for name, finding in measured.items():
            if finding.note:
                notes.setdefault(finding.note, []).append(name)
        return [note if len(who) == len(measured) else f"{', '.join(who)}: {note}" for note, who in notes.items()]

    @property
    def test_note(self) -> str | None:
        """How the change was tested."""
        change = self.subjects.get("change")
        return change.note if change else None


def judgement_words(judgement: Judgement) -> str:
    """The judgement in words for a reader."""
    return _WORDS[judgement]


def compare(findings: Sequence[Finding]) -> list[Compared]:
    """Findings gathered by check, metric and group, in the order they were measured."""
    rows: dict[tuple[str, str, str | None], Compared] = {}
    for finding in findings:
        key = (finding.check, finding.metric, finding.group)
        rows.setdefault(key, Compared(*key)).subjects[finding.subject] = finding
    return list(rows.values())


def headline(record: Record) -> str:
    """The verdict in a few plain sentences: what moved most to the point, whether the gates hold, and what of all that
    was to be found never was.
    """
    if not record.measured:
        return "This run has not come to its end: nothing was measured yet."
    told = (_movement(record), _gates(record), *never_found(record.findings))
    return " ".join(told)


def never_found(findings: Sequence[Finding], most: int = 5) -> list[str]:
    """A sentence for each check whose tuned model found nothing of some class or kind: a mean over all hides it."""
    missed: dict[str, list[str]] = {}
    for one in findings:
        if one.group and (one.metric, one.subject, one.value) == ("recall", "tuned", 0):
            missed.setdefault(one.check, []).append(f"'{one.group}'")
    return [
        f"Of {', '.join(names[:most])}{f' and {len(names) - most} more' if len(names) > most else ''} "
        f"nothing was found ({check})."
        for check, names in missed.items()
    ]


def _movement(record: Record) -> str:
    row = _chosen(record)
    if row is None or row.tuned is None:
        return "Base and tuned were not compared by any check."
    if row.base is None:
        return f"{row.label} is {number(row.tuned.value)} after training."
    before, after = row.base.value, row.tuned.value
    verb = "rose" if after > before else "fell" if after < before else "stayed"
    path = f"at {number(after)}" if after == before else f"from {number(before)} to {number(after)}"
    change = row.change
    assert change is not None
    bounds = interval(change.low, change.high, sign=True)
    inner = f"{signed(change.value)}, 95 % interval {bounds}" if bounds else signed(change.value)
    direction = f"; {row.better} is better" if row.better != "neither" else ""
    return f"{row.label} {verb} {path} ({inner}{direction}){_ending(row)}"


def _ending(row: Compared) -> str:
    """What is to be thought of a change. An interval and an adjusted test need not agree; then both are told."""
    if row.judgement in ("better", "worse") and row.p is not None and row.p >= 0.05:
        return f", {row.judgement} by its interval but not by its test (p = {probability(row.p)})."
    return {
        "better": ", an improvement that chance does not explain.",
        "worse": ", a clear loss.",
        "unclear": ": a difference this small may be chance.",
        "neutral": ".",
        "untold": ".",
    }[row.judgement]


def _chosen(record: Record) -> Compared | None:
    """The metric that the recipe's first gate is about; without gates the first that compares base and tuned."""
    rows = [row for row in compare(record.findings) if row.group is None]
    paired = [row for row in rows if row.base and row.tuned]
    for verdict in record.verdicts:
        gate = parse(verdict.gate)
        if not isinstance(gate, Problem):
            for row in paired:
                if (row.check, row.metric) == (gate.check, gate.metric):
                    return row
    return next(iter(paired or [row for row in rows if row.tuned]), None)


def _gates(record: Record) -> str:
    total = len(record.verdicts)
    failed = [verdict.gate for verdict in record.verdicts if not verdict.holds]
    if not total:
        return "The recipe sets no gates."
    if not failed:
        return {1: "The gate holds.", 2: "Both gates hold."}.get(total, f"All {total} gates hold.")
    if len(failed) == total:
        return {1: "The gate does not hold.", 2: "Neither gate holds."}.get(total, f"None of the {total} gates holds.")
    return f"{len(failed)} of {total} gates {'does' if len(failed) == 1 else 'do'} not hold: {'; '.join(failed)}."
