"""The page about the embedded model: tables for a reader, texts in full, then every row with its floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.record import Measured, measured_here, placed, table
from luthier.core.files import write_atomic
from luthier.functional.statistics import Estimate

from ._nano_bits import NAMES, Compared
from ._nano_memory import Recall
from ._nano_model import Continued
from ._nano_runs import Run
from ._nano_stereotypes import Pronouns

__all__ = ["Evidence", "text_of", "write_page"]


@dataclass
class Evidence:
    """What was found, part by part; rows holds every number."""

    model: str
    compared: Sequence[Compared] = ()
    samples: dict[str, Sequence[Continued]] = field(default_factory=dict)
    recall: Recall | None = None
    pronouns: Pronouns | None = None
    parts: dict[str, list[Measured]] = field(default_factory=dict)

    @property
    def rows(self) -> list[Measured]:
        return [row for rows in self.parts.values() for row in rows]


def write_page(evidence: Evidence, page: Path) -> None:
    """Writes the generated section into the page, in place of an earlier one; what else it holds stays."""
    before = page.read_text(encoding="utf-8") if page.is_file() else "# The embedded model\n"
    write_atomic(page, placed(before, "nano", text_of(evidence)).encode())


def text_of(evidence: Evidence) -> str:
    """The section's text, without its marks."""
    where = measured_here()
    versions = ", ".join(f"{package} {version}" for package, version in where["versions"].items())
    text = [f"## Measured: {evidence.model}", "", f"`{where['command']}`", ""]
    text += [f"{where['date']} · {where['machine']} · Python {where['python']}, {versions}", ""]
    text += ["### Bits a byte", "", *bits_table(evidence.compared), ""]
    for title, rows in evidence.parts.items():
        if title != "Bits a byte":
            text += [f"### {title}", "", table([row.plain() for row in rows]), ""]
        if title == "Memory" and evidence.recall is not None:
            text += [*recall_text(evidence.recall), ""]
        if title == "Pronouns" and evidence.pronouns is not None:
            text += [*pronoun_text(evidence.pronouns), ""]
        if title == "Continuations":
            for kind, samples in evidence.samples.items():
                text += [f"#### {kind[0].upper()}{kind[1:]}", "", *continuation_text(samples)]
    text += ["### Floors", "", table([row.plain() for row in evidence.rows if row.floor is not None]), ""]
    return "\n".join(text)


def bits_table(found: Sequence[Compared]) -> list[str]:
    """A line for each set: the model and the other sides, with intervals."""
    names = {"ours": "this model", **NAMES}
    lines = ["| text | documents | bytes | " + " | ".join(names.values()) + " |"]
    lines.append("|---|---:|---:|" + "---:|" * len(names))
    for one in found:
        cells = [_estimate(one.estimates[name]) for name in names]
        start = f"| {one.texts.name} | {len(one.texts.texts):,} | {sum(one.texts.bytes):,} | "
        lines.append(start + " | ".join(cells) + " |")
    return lines


def _estimate(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"


def recall_text(found: Recall) -> list[str]:
    """The longest run of all samples, and of the control."""

    def longest(runs: Sequence[Run]) -> Run:
        return max(runs, key=lambda run: run.length)

    ours, other = longest(found.sampled), longest(found.control)
    return [
        f"The longest run in a sample ({ours.length} words):",
        "",
        f"> {ours.words}",
        "",
        f"The longest run in the held-out text ({other.length} words):",
        "",
        f"> {other.words}",
    ]


def pronoun_text(found: Pronouns, ends: int = 5) -> list[str]:
    """The occupations with the highest and the lowest share of she."""
    ranked = found.ranked
    lines = ["| occupation | share of she, by the model | women, United States 2015 |", "|---|---:|---:|"]
    shown = [*ranked[:ends], *ranked[-ends:]]
    lines += [f"| {name} | {found.shares[name]:.2f} | {found.women[name]:.2f} |" for name in shown]
    return [f"The {ends} occupations with the highest share of she and the {ends} with the lowest:", "", *lines]


def continuation_text(samples: Sequence[Continued]) -> list[str]:
    """Each opening in bold, and all that the model wrote after it."""
    text = []
    for number, sample in enumerate(samples, 1):
        prompt = " ".join(_plain(sample.prompt).split())
        written = " ".join(_plain(sample.text).split()) or "(nothing: it ended the text)"
        text += [f"{number}. **{prompt}** {written}", ""]
    return text


def _plain(text: str) -> str:
    """The text with what Markdown would take for its own marked as letters."""
    marks: Mapping[int, str] = {ord(mark): f"\\{mark}" for mark in "\\*_`<>[]#|"}
    return text.translate(marks)
