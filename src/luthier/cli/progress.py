"""Live progress of a run in the terminal: a bar while steps go by, a line for everything else."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ..core.printable import harmless

__all__ = ["Console"]

WORDS = {
    "prepare": "preparing the data",
    "base": "measuring the base",
    "export": "writing the model",
    "check": "measuring the result",
}


class Console:
    """A listener of events. plain: a line every few seconds instead of a bar (also when the output is no terminal)."""

    def __init__(self, plain: bool = False) -> None:
        self._console = RichConsole(stderr=True, highlight=False)
        self._plain = plain or not sys.stderr.isatty()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._said = 0.0
        self._phase = ""

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *problem: object) -> None:
        self._end_bar()

    def __call__(self, record: Mapping[str, Any]) -> None:
        kind = record["event"]
        if kind == "step":
            self._step(record)
        elif kind == "validation":
            mark = " [green]best[/]" if record.get("best") else ""
            self._say(f"  step {record['step']}: validation loss {record['loss']:z.4f}{_told(record)}{mark}")
        elif kind == "stage":
            self._stage(record)
        elif kind == "warning":
            self._say(f"[yellow]warning:[/] {harmless(record['text'])}")
        elif kind == "note":
            self._say(f"  [dim]{harmless(record['text'])}[/]")

    def _stage(self, record: Mapping[str, Any]) -> None:
        stage = record["stage"]
        words = WORDS.get(stage) or stage.replace("train ", "training phase ")
        if record["state"] == "started":
            self._say(f"[bold]{harmless(words)}[/]")
        elif record["state"] == "done":
            self._end_bar()
            self._say(f"  [dim]{record['seconds']:.1f} s[/]")
        else:
            self._say(f"[dim]{harmless(words)}: kept from before[/]")

    def _step(self, record: Mapping[str, Any]) -> None:
        rate = f"{record['tokens_per_s']:,.0f} tokens/s"
        figures = f"loss {record['loss']:z.3f}{_told(record)}  {rate}  {record['memory_gb']:.1f} GB"
        if self._plain:
            now = time.monotonic()
            if now - self._said > 5 or record["step"] == record["total"]:
                self._said = now
                self._say(f"  step {record['step']}/{record['total']}  {figures}")
            return
        if self._progress is None or self._phase != record["phase"]:
            self._end_bar()
            self._phase = record["phase"]
            self._progress = Progress(
                TextColumn("  [bold]{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[figures]}"),
                console=self._console,
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task(record["phase"], total=record["total"], figures=figures)
        assert self._task is not None
        self._progress.update(self._task, completed=record["step"], figures=figures)

    def _say(self, text: str) -> None:
        (self._progress.console if self._progress else self._console).print(text, soft_wrap=True)

    def _end_bar(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _told(record: Mapping[str, Any]) -> str:
    """What objectives tell beside the loss, as far as it is looked at first."""
    figures = record.get("figures", {})
    return "".join(
        f"  {name} {figures[name]:z.2f}" for name in ("reward", "kl", "accuracy", "margin", "sure") if name in figures
    )
