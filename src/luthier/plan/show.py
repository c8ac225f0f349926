"""A plan for a reader: data, rows, weights, memory, time, and the first encoded rows, what is learned in green."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..core.printable import harmless

if TYPE_CHECKING:
    from ..core.contracts import Row
    from .plan import PhasePlan, Plan

__all__ = ["show"]

SHOWN_TOKENS = 220
"""Of a longer row its beginning and end are shown."""

LEARNED = ("«", "»")
"""Around what is learned, where the page has no color: in a file, or a log."""


def show(plan: Plan, console: Console | None = None) -> None:
    """Prints the plan; in color on a terminal, as plain text into a pipe."""
    console = console or Console(highlight=False)

    def line(text: str = "") -> None:
        console.print(text, soft_wrap=True)

    seeds = len(plan.recipe.seeds)
    line(f"[bold]{harmless(plan.recipe.name)}[/]  {harmless(plan.recipe.about or '')}")
    line()
    for key, value in _facts(plan):
        line(f"[bold]{key:<10}[/]{harmless(value)}")
    line()
    _data(console, plan)
    for number, phase in enumerate(plan.phases, 1):
        line()
        line(f"[bold]phase {number} of {len(plan.phases)}, {phase.name}[/]: {harmless(_what(phase))}")
        line()
        _phase(console, phase)
    _time(console, plan)
    if seeds > 1:
        line(f"with {seeds} seeds, one after the other")
    line()
    colored = console.color_system is not None and not console.no_color
    learned = "in green, special tokens underlined" if colored else f"between {LEARNED[0]} and {LEARNED[1]}"
    line(f"[bold]the first rows of {plan.phases[0].name}[/], learned tokens {learned}")
    line()
    _samples(console, plan, marked=not colored)


def _facts(plan: Plan) -> Iterator[tuple[str, str]]:
    license_ = plan.model.get("license")
    yield "model", plan.recipe.model + (f" ({license_})" if license_ else "")
    yield "device", f"{plan.device}, {plan.dtype}: {plan.because}"
    if plan.template:
        yield "template", plan.template
    if plan.stop:
        yield "stops at", " ".join(plan.stop)


def _data(console: Console, plan: Plan) -> None:
    read, unread = plan.data["read"], plan.data["unread"]
    formats = sorted({fact["format"] for fact in plan.data["formats"].values()})
    bad = f", [yellow]{unread:,} could not be read and are set aside[/]" if unread else ""
    console.print(f"[bold]data[/]      {read:,} rows read as {', '.join(formats)}{bad}", soft_wrap=True)
    splits = list(plan.data["splits"])
    counted: dict[tuple[str, str, str], dict[str, int]] = {}
    for step in plan.data["steps"]:
        if step["action"] != "unread":
            counted.setdefault((step["step"], step["action"], step["reason"]), {})[step["split"]] = step["count"]
    if not counted:
        return
    table = _table("", " ", *splits)
    for (name, action, reason), by in counted.items():
        counts = [f"{by[split]:,}" if split in by else "" for split in splits]
        table.add_row(f"          {name} {action}", harmless(reason), *counts)
    console.print(table)


def _phase(console: Console, phase: PhasePlan) -> None:
    table = _table("", "rows", "tokens", "learned", "longest")
    for name, split in phase.splits.items():
        rows = f"{split.examples:,}" if split.examples == split.rows else f"{split.examples:,} in {split.rows:,} parts"
        table.add_row(name, rows, f"{split.tokens:,}", f"{split.supervised:,}", f"{split.longest:,}")
    console.print(table)
    for text in _losses(phase):
        console.print(f"[yellow]{harmless(text)}[/]", soft_wrap=True)
    console.print()
    share = 100 * phase.trained / max(1, phase.parameters)
    for key, value in (
        ("weights", f"{phase.parameters:,}, of which {phase.trained:,} train ({share:.3g} %)"),
        ("training", f"{phase.steps:,} steps, {phase.tokens:,} tokens, at most {phase.max_length:,} in a row"),
        (
            "speed",
            f"{phase.probe.tokens_per_s:,.0f} tokens/s in {phase.probe.steps} steps of {phase.probe.tokens:,} tokens",
        ),
        ("memory", _memory(phase)),
        ("at a time", _at_a_time(phase)),
    ):
        console.print(f"{key:<10}{harmless(value)}", soft_wrap=True)


def _losses(phase: PhasePlan) -> Iterator[str]:
    """What encoding shortens and leaves out, in words."""
    if phase.truncated:
        cut = [item.before - item.after for item in phase.truncated.values()]
        yield (
            f"{len(cut):,} rows are shortened to fit {phase.max_length:,} tokens, by {sum(cut) / len(cut):,.0f} tokens "
            f"on average and {max(cut):,} at most"
        )
    for reason, count in phase.dropped.items():
        yield f"{count:,} rows are left out: {reason}"


def _at_a_time(phase: PhasePlan) -> str:
    room = phase.room
    on = "on" if room.gradient_checkpointing else "off"
    return f"{room.micro_tokens:,} tokens, gradient checkpointing {on} ({room.because})"


def _memory(phase: PhasePlan) -> str:
    memory = phase.room.memory
    parts = [(part.name, getattr(memory, part.name)) for part in fields(memory)]
    held = ", ".join(f"{name} {_bytes(size)}" for name, size in parts if size)
    return f"{_bytes(memory.total)} estimated ({held}); {_bytes(phase.probe.peak)} at the peak of the probe"


def _time(console: Console, plan: Plan) -> None:
    table = _table("", "", "")
    for phase in plan.phases:
        table.add_row(f"training {phase.name}", _duration(phase.seconds), "")
    if plan.base_seconds:
        table.add_row("training the base's head", _duration(plan.base_seconds), "roughly")
    for check in plan.checks:
        table.add_row(f"check {check.name}", _duration(check.seconds), f"{check.items:,} items; roughly, at most")
    table.add_row("[bold]together[/]", f"[bold]{_duration(plan.seconds)}[/]", "")
    console.print()
    console.print("[bold]time, from a short probe[/]")
    console.print(table)


def _samples(console: Console, plan: Plan, marked: bool) -> None:
    """The first rows; `marked`: what is learned stands between marks, where there is no color to tell it."""
    from ..data.spelled import spelled

    for row in plan.samples:
        text = spelled([_ends(row)], plan.tokenizer)
        if len(row.ids) > SHOWN_TOKENS:
            head = f"{row.id}: {len(row.ids)} tokens, {int(row.supervised.sum())} learned; its beginning and end\n"
            text = Text.assemble((head, "bold"), text[len(text.plain.partition("\n")[0]) + 1 :])
        console.print(_marked(text) if marked else text, soft_wrap=True)


def _marked(text: Text) -> Text:
    """The text with marks around its green parts; neighboring ones share a pair."""
    spans = sorted((span for span in text.spans if "green" in str(span.style)), key=lambda span: span.start)
    pieces: list[str] = []
    end = 0
    for span in spans:
        if span.start == end and pieces:
            pieces[-1] = text.plain[span.start : span.end]
            pieces.append(LEARNED[1])
        else:
            pieces += [text.plain[end : span.start], LEARNED[0], text.plain[span.start : span.end], LEARNED[1]]
        end = span.end
    return Text("".join([*pieces, text.plain[end:]]))


def _ends(row: Row) -> Row:
    """The row, or its beginning and end where it is long."""
    if len(row.ids) <= SHOWN_TOKENS:
        return row
    import numpy as np

    half = SHOWN_TOKENS // 2
    kept = np.r_[0:half, len(row.ids) - half : len(row.ids)]
    return replace(row, ids=row.ids[kept], supervised=row.supervised[kept])


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False, show_header=any(headings), header_style="dim")
    for number, heading in enumerate(headings):
        table.add_column(
            heading, justify="right" if heading.strip() and number else "left", overflow="fold", no_wrap=not number
        )
    return table


def _what(phase: PhasePlan) -> str:
    return f"{_component(phase.objective)} with {_component(phase.adaptation)}"


def _component(described: Any) -> str:
    """A component as a recipe writes it: lora, or lora (rank 16)."""
    if isinstance(described, str):
        return described
    name, parameters = next(iter(described.items()))
    return f"{name} ({', '.join(f'{key} {value}' for key, value in parameters.items())})"


def _bytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 1 else "under 1 s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
