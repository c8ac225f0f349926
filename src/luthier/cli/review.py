"""Rows shown one by one in the terminal, and what a reviewer says of them; how far reviewers agree."""

from __future__ import annotations

import itertools
import json
import math
import os
import shlex
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..core.errors import nearest
from ..core.example import Example
from ..core.printable import harmless
from ..data.review import Decision, add_decision, digest_of, settled
from ..functional.agreement import cohen, fleiss, krippendorff

__all__ = ["ask", "show_agreement"]

HELP = """[bold]k[/] keep   [bold]d[/] drop   [bold]r[/] LABEL relabel   [bold]e[/] edit   [bold]s[/] skip   \
[bold]q[/] quit   [dim]d, k: a reason may follow[/]"""
SHOWN = 2000
"""Characters of one text that are shown."""


def ask(
    rows: Sequence[Example],
    every: Sequence[Example],
    decisions: Path,
    reviewer: str,
    notes: Mapping[str, Sequence[str]],
    *,
    final: bool,
) -> None:
    """Asks about each row and writes every answer at once; ends at q, or where the input ends."""
    console = Console(highlight=False)
    labels = sorted({example.target for example in every if isinstance(example.target, str)})
    decided = 0
    if rows:
        console.print(HELP)
    for number, example in enumerate(rows, 1):
        _show(console, example, f"{number} of {len(rows)}", notes.get(example.id, ()))
        answer = _answer(console, example, labels)
        if answer is None:
            break
        if answer:
            decision = Decision(example.id, reviewer, digest=digest_of(example), final=final, **answer)
            add_decision(decisions, decision)
            decided += 1
    left = len(rows) - decided
    console.print(
        f"{decided} decided by {harmless(reviewer)}, {left} left; decisions lie in {decisions}", soft_wrap=True
    )


def _show(console: Console, example: Example, place: str, notes: Sequence[str]) -> None:
    console.print(f"\n[bold]{place}[/]  [dim]{harmless(example.id)}[/]", soft_wrap=True)
    for note in notes:
        console.print(f"  [yellow]{harmless(note)}[/]")
    for name, part in example.parts.items():
        texts = [(name, part)] if isinstance(part, str) else [(turn.role, turn.content) for turn in part]
        for label, text in texts:
            cut = text if len(text) <= SHOWN else f"{text[:SHOWN]} … ({len(text):,} characters)"
            console.print(f"[cyan]{harmless(label)}[/] {harmless(cut)}")
    if example.target is not None:
        target = ", ".join(example.target) if isinstance(example.target, tuple) else str(example.target)
        console.print(f"[cyan]target[/] [bold]{harmless(target)}[/]")


def _answer(console: Console, example: Example, labels: Sequence[str]) -> dict[str, Any] | None:
    """What was decided; empty for a skipped row, None at the end."""
    while True:
        try:
            given = console.input("[bold]>[/] ").strip()
        except EOFError:
            return None
        word, _, rest = given.partition(" ")
        rest = rest.strip()
        if word in ("q", "quit"):
            return None
        if word in ("s", "skip"):
            return {}
        if word in ("k", "keep", "d", "drop"):
            return {"action": "keep" if word[0] == "k" else "drop", "reason": rest}
        if word in ("r", "relabel"):
            label = _label(console, rest, labels)
            if label is not None:
                return {"action": "relabel", "target": label}
        elif word in ("e", "edit"):
            parts = _edited(console, example)
            if parts is not None:
                return {"action": "edit", "parts": parts}
        else:
            console.print(HELP)


def _label(console: Console, given: str, labels: Sequence[str]) -> str | None:
    if not labels:
        console.print("these rows have no labels")
    elif given in labels:
        return given
    else:
        near = nearest(given, labels)
        known = f"did you mean '{near}'?" if near else "labels: " + ", ".join(labels[:40])
        console.print(f"no row has the label '{harmless(given)}'; {harmless(known)}")
    return None


def _edited(console: Console, example: Example) -> dict[str, Any] | None:
    """The parts as they come back from the user's editor; None where nothing was changed."""
    before = example.plain_parts()
    try:
        parts = json.loads(_in_editor(json.dumps(before, indent=1, ensure_ascii=False)))
        Example.from_json({**example.to_json(), "parts": parts})
    except (OSError, subprocess.CalledProcessError) as error:
        console.print(f"the editor ended badly, and nothing was kept: {harmless(str(error))}")
        return None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        console.print(f"this is no row any more, and nothing was kept: {harmless(repr(error))}")
        return None
    return None if parts == before else parts


def _in_editor(text: str) -> str:
    """The text as the user's editor ($VISUAL, $EDITOR, else vi) leaves it."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "row.json"
        file.write_text(text + "\n", encoding="utf-8")
        subprocess.run([*shlex.split(editor), str(file)], check=True)
        return file.read_text(encoding="utf-8")


def show_agreement(decisions: Sequence[Decision]) -> None:
    """Agreement of all, and of each two reviewers on the rows that both looked at; the rows they disagree about."""
    console = Console(highlight=False)
    by_row: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for each in decisions:
        if not each.final:
            by_row[each.id, each.digest][each.reviewer] = each.value
    units = [list(values.values()) for values in by_row.values()]
    reviewers = sorted({name for values in by_row.values() for name in values})
    several = [values for values in units if len(values) > 1]
    console.print(f"{len(units)} rows, {len(several)} with several reviewers, {len(reviewers)} reviewers")
    if not several:
        return
    console.print(f"Krippendorff's alpha {_number(krippendorff(units))}")
    if len({len(values) for values in several}) == 1:
        console.print(f"Fleiss' kappa {_number(fleiss(several))}")
    table = Table(box=None, pad_edge=False)
    for heading in ("reviewers", "rows", "equal", "Cohen's kappa"):
        table.add_column(heading)
    for one, other in itertools.combinations(reviewers, 2):
        both = [(values[one], values[other]) for values in by_row.values() if one in values and other in values]
        if both:
            equal = sum(a == b for a, b in both) / len(both)
            kappa = _number(cohen(*zip(*both, strict=True)))
            table.add_row(harmless(f"{one}, {other}"), str(len(both)), f"{equal:.0%}", kappa)
    console.print(table)
    for (name, _), found in settled(decisions, "unanimous").items():
        if found.decision is None:
            console.print(f"{harmless(name)}: {found.tally}", soft_wrap=True)


def _number(value: float) -> str:
    return "undefined: nobody ever decided otherwise" if math.isnan(value) else f"{value:.3f}"
