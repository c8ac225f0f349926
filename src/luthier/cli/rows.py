"""What `luthier data show` prints: files and formats, columns with statistics, first rows, and how to overrule."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ..core.example import Example
from ..core.printable import harmless
from ..data.show import ShownFile

__all__ = ["show_rows"]

_FILES, _BAD, _CLASSES = 10, 3, 10
_CELL, _TEXT = 40, 300  # characters of a value in the table, and of a text in a row


def show_rows(files: Sequence[ShownFile]) -> None:
    """Every file's format and why; of the first file its columns and rows; what could not be read; how to overrule."""
    console = Console(highlight=False)
    for file in files[:_FILES]:
        unread = f", {len(file.unread):,} of them cannot be read" if file.unread else ""
        told = f"{file.format}, {file.because}" if file.format else file.because
        counted = f"{file.rows:,} {'row' if file.rows == 1 else 'rows'} looked at"
        console.print(f"[bold]{harmless(file.path)}[/]: {harmless(told)} [dim]({counted}{unread})[/]", soft_wrap=True)
        for row in file.unread[:_BAD]:
            console.print(f"  {harmless(str(row))}", soft_wrap=True)
    if len(files) > _FILES:
        console.print(f"and {len(files) - _FILES:,} more files")
    console.print()
    console.print(_columns(files[0]))
    if files[0].classes:
        counts = [f"{name} {count:,}" for name, count in list(files[0].classes.items())[:_CLASSES]]
        more = f" and {len(files[0].classes) - _CLASSES:,} more" if len(files[0].classes) > _CLASSES else ""
        console.print(f"\nclasses: {harmless(', '.join(counts))}{more}", soft_wrap=True)
    for example in files[0].examples:
        console.print()
        _row(console, example)
    console.print(
        "\n[dim]to read it otherwise: --format NAME (luthier list formats), --column KEY=COLUMN, --no-header; "
        "in a recipe: train: {path: ..., format: NAME, columns: {KEY: COLUMN}, header: false}[/]",
        soft_wrap=True,
    )


def _columns(file: ShownFile) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("column", "read as", "filled", "distinct", "values", "first"):
        table.add_column(heading, overflow="fold")
    for column in file.columns:
        values = " or ".join(column.kinds) + (f": {column.size}" if column.size else "")
        table.add_row(
            harmless(_cut(column.name, _CELL)),
            harmless(column.read) if column.read else "[dim]not read[/]",
            f"{column.filled:,}",
            f"{column.distinct:,}",
            values,
            harmless(_cut(column.first, _CELL)),
        )
    return table


def _row(console: Console, example: Example) -> None:
    console.print(f"[bold]{harmless(example.id)}[/] [dim]{harmless(str(example.origin))}[/]", soft_wrap=True)
    for name, part in example.parts.items():
        if isinstance(part, str):
            console.print(f"  [bold]{harmless(name)}[/]  {harmless(_cut(part, _TEXT))}", soft_wrap=True)
            continue
        for turn in part:
            learned = " (learned)" if turn.trained else ""
            said = f"{harmless(name)} · {harmless(turn.role)}{learned}"
            console.print(f"  [bold]{said}[/]  {harmless(_cut(turn.content, _TEXT))}", soft_wrap=True)
    if example.target is not None:
        console.print(f"  [bold]target[/]  {harmless(_cut(str(example.target), _TEXT))}", soft_wrap=True)
    for name, value in example.groups.items():
        console.print(f"  [bold]group {harmless(name)}[/]  {harmless(_cut(value, _CELL))}", soft_wrap=True)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
