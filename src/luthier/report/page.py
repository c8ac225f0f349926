"""The report: one HTML file that opens offline, written from the run folder alone."""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from ..core.component import names, summary
from ..core.evidence import Finding
from ..core.files import write_atomic
from . import words
from .changes import examples, flow
from .comparison import Compared, compare, headline, judgement_words
from .figures import Mark, Series, bar, chart, heat, intervals, smoothed
from .record import Curve, Record, read_record

__all__ = ["write_report"]

LONGEST = 4000  # characters of one sample's text
ROLLOUTS = 6  # of a phase whose answers are shown
PAIRS = 15  # confused pairs that are listed

SCRIPT = (
    'addEventListener("beforeprint",()=>document.querySelectorAll("details").forEach(d=>{'
    'd.dataset.was=d.open?"1":"";d.open=true}));'
    'addEventListener("afterprint",()=>document.querySelectorAll("details").forEach(d=>{d.open=d.dataset.was==="1"}));'
)
"""Folded parts are unfolded for printing: style sheets cannot do that. Everything else works without a script."""


def write_report(folder: Path) -> Path:
    """Writes `report.html` into the run folder and returns its path.

    The file holds its style and drawings and asks for nothing; its content policy forbids every request and every
    script but its own, whose digest it names, so that hostile text in data or answers stays text.
    Errors: DataError when the folder is no run folder or a file in it is damaged.
    """
    record = read_record(folder)
    template = _environment().get_template("report.html.j2")
    path = record.folder / "report.html"
    write_atomic(path, template.render(_view(record)).encode("utf-8", "replace"))  # data may hold half a surrogate pair
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("luthier.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    for name in ("count", "number", "signed", "interval", "probability", "seconds", "size"):
        environment.filters[name] = getattr(words, name)
    environment.globals.update(apart=words.apart, interval=words.interval)
    return environment


def _view(record: Record) -> dict[str, Any]:
    """Everything that the template shows, in the order in which it does."""
    rows = compare(record.findings)
    failed = sum(not verdict.holds for verdict in record.verdicts)
    script = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return {
        "name": record.name,
        "about": record.recipe.get("about"),
        "verdict": headline(record),
        "state": "unfinished"
        if not record.measured
        else "fails"
        if failed
        else "holds"
        if record.verdicts
        else "plain",
        "warnings": record.warnings,
        "checks": _checks(rows, repeated=bool(record.seeds)),
        "exported": [finding for row in rows for finding in row.others],
        "verdicts": record.verdicts,
        "seeds": record.seeds,
        "unit": "seeds" if record.seeds else "items",
        "seed_rows": _seed_rows(record),
        "curves": [curve for curve in map(_curve, record.curves) if curve],
        **_preparation(record),
        "samples": {check: [_sample(item) for item in items] for check, items in record.samples.items() if items},
        "rollouts": {curve.phase: shown for curve in record.curves if (shown := _rollouts(curve))},
        "confusion": _confusion(record.confusion),
        "training": record.part("training"),
        "stages": record.part("stages"),
        "energy": record.part("energy"),
        "machine": record.part("machine"),
        "versions": record.part("versions"),
        "model": record.part("model"),
        "inputs": record.part("inputs"),
        "manifest": record.manifest,
        "recipe_text": record.recipe_text,
        "script": Markup(SCRIPT),
        "script_digest": script,
    }


def _checks(rows: Sequence[Compared], repeated: bool) -> list[dict[str, Any]]:
    """The comparison table by check: rows, rows of groups (folded), notes of several rows once, and folded notes.

    Folded are the notes on tests, and with `repeated` all notes: there they list the values of every seed.
    """
    known = names("checks")
    checks: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.base is None and row.tuned is None and "change" not in row.subjects:
            continue
        about = summary("checks", row.check) if row.check in known else ""
        empty = {"name": row.check, "about": about, "rows": [], "groups": [], "notes": [], "folded": []}
        check = checks.setdefault(row.check, empty)
        check["groups" if row.group else "rows"].append(_row(row))
        if row.group is None:
            folded = [*(row.notes if repeated else ()), *([row.test_note] if row.test_note else ())]
            check["folded"].extend(f"{row.metric}: {note}" for note in folded)
    for check in checks.values():
        shown = [*check["rows"], *check["groups"]]
        counted = Counter(note for row in shown for note in row["notes"])
        check["notes"] = [] if repeated else [note for note, count in counted.items() if count > 1]
        for row in shown:
            row["notes"] = [] if repeated else [note for note in row["notes"] if counted[note] == 1]
    return list(checks.values())


def _row(row: Compared) -> dict[str, Any]:
    marks = [_mark(finding, name) for name, finding in (("base", row.base), ("tuned", row.tuned)) if finding]
    return {
        "label": f"{row.metric}: {row.group}" if row.group else row.metric,
        "better": row.better,
        "base": row.base,
        "tuned": row.tuned,
        "change": row.change,
        "picture": intervals(marks),
        "judgement": row.judgement,
        "judgement_words": judgement_words(row.judgement),
        "p": row.p,
        "n": row.n,
        "notes": row.notes,
    }


def _mark(finding: Finding, name: str) -> Mark:
    return Mark(name, finding.value, finding.low, finding.high, "base" if name == "base" else "tuned")


def _seed_rows(record: Record) -> list[dict[str, Any]]:
    """For each metric of the repeated runs: tuned's value for every seed, and all of them on one axis."""
    rows: dict[str, dict[int, float]] = {}
    for run in record.seeds:
        for row in compare(run.findings):
            if row.group is None and row.tuned is not None:
                rows.setdefault(row.label, {})[run.seed] = row.tuned.value
    out = []
    for label, values in rows.items():
        marks = [Mark(f"seed {seed}", value, None, None, "tuned") for seed, value in values.items()]
        finite = [value for value in values.values() if math.isfinite(value)]
        spread = max(finite) - min(finite) if finite else None
        out.append({"label": label, "values": values, "picture": intervals(marks), "spread": spread})
    return out


def _curve(curve: Curve) -> dict[str, Any] | None:
    """The drawings of a phase: the loss wide and narrow, learning rate, gradient norm, speed and memory small."""
    loss = curve.points("loss")
    if not loss and not curve.validations:
        return None
    span = max(3, 2 * (len(loss) // 40) + 1)
    series = [
        Series("each step", loss, "raw"),
        Series(f"mean of {span} steps", smoothed(loss, span), "line"),
        Series("validation", curve.validation_points(), "dots"),
    ]
    small = {
        "learning rate": "lr",
        "gradient norm": "grad_norm",
        "tokens per second": "tokens_per_s",
        "memory, GB": "memory_gb",
    }
    return {
        "phase": curve.phase,
        "wide": chart(series, title="loss", kind="wide"),
        "narrow": chart(series[1:], title="loss", width=350, height=230, kind="narrow"),
        "small": [
            chart([Series(title, curve.points(key), "line")], title=title, width=440, height=160, legend=False)
            for title, key in small.items()
        ]
        + [_figure(curve, name, span) for name in curve.figures()],
    }


def _figure(curve: Curve, name: str, span: int) -> Markup:
    """What the objective told beside its loss: the running mean of the steps, and the validations."""
    series = [
        Series("steps", smoothed(curve.figure_points(name), span), "line"),
        Series("validation", curve.figure_points(name, validation=True), "dots"),
    ]
    return chart(series, title=name.replace("_", " "), width=440, height=160, legend=False)


def _preparation(record: Record) -> dict[str, Any]:
    steps = flow(record.summary)
    most = max((max(step.before, step.after) for step in steps), default=0)
    by_step: dict[str, list[Any]] = {}
    for (step, action, reason), found in examples(record.folder / "data" / "ledger.parquet").items():
        by_step.setdefault(step, []).append({"action": action, "reason": reason, "examples": found})
    return {
        "summary": record.summary,
        "flow": [{"step": step, "bar": bar(step.after, step.dropped, most)} for step in steps],
        "ledger": by_step,
        "measured": _measured(record),
    }


def _measured(record: Record) -> dict[str, list[Any]]:
    """What steps measured, by step, split after split; one that dropped and changed nothing has no flow."""
    found: dict[str, list[Any]] = {}
    for each in record.summary.get("facts", ()):
        found.setdefault(str(each["step"]), []).append({"split": each["split"], "facts": each["facts"]})
    return found


def _sample(item: Mapping[str, Any]) -> dict[str, Any]:
    texts = {key: _cut(item.get(key)) for key in ("row", "prompt", "wanted", "base", "tuned")}
    wanted = str(item.get("wanted") or "").strip()
    hits = {key: bool(wanted) and str(item.get(key) or "").strip() == wanted for key in ("base", "tuned")}
    return {**texts, "hits": hits, "has_base": item.get("base") is not None}


def _rollouts(curve: Curve) -> list[dict[str, Any]]:
    """Rollouts from the first to the last, evenly chosen: their step, mean reward, and answers, the best first."""
    told = [event for event in curve.rollouts if event["samples"]]
    last, count = len(told) - 1, min(ROLLOUTS, len(told))
    chosen = [told[round(place * last / max(1, count - 1))] for place in range(count)]
    return [
        {
            "step": event["step"],
            "reward": event["figures"]["reward"],
            "samples": [
                {**sample, "answers": sorted(sample["answers"], key=lambda answer: -float(answer["reward"]))}
                for sample in event["samples"]
            ],
        }
        for event in chosen
    ]


def _cut(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text):,} characters)"


def _confusion(confusion: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Tuned's most confused pairs, with the base's count of the same pair beside them, and the heat maps."""
    shown = confusion.get("tuned") or next(iter(confusion.values()), None)
    if not shown:
        return None
    classes = [str(name) for name in shown["classes"]]
    base = confusion.get("base")
    before = base["matrix"] if base and base is not shown and base["classes"] == shown["classes"] else None
    pairs = [
        {
            "wanted": classes[i],
            "given": classes[j],
            "count": count,
            "share": count / sum(row),
            "base": before[i][j] if before else None,
        }
        for i, row in enumerate(shown["matrix"])
        for j, count in enumerate(row)
        if i != j and count
    ]
    pairs.sort(key=lambda pair: -float(pair["count"]))
    return {
        "classes": len(classes),
        "pairs": pairs[:PAIRS],
        "more": max(0, len(pairs) - PAIRS),
        "base": before is not None,
        "heat": heat(classes, shown["matrix"]),
        "heat_base": heat(classes, before) if before else Markup(""),
    }
