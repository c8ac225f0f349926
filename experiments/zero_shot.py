"""Do texts that nobody labeled help where only the classes' names are known? Banking77, no label learned from.

    python -m experiments.zero_shot [--quick] [--json FILE]

The recipe `zero-shot` names the class whose name lies nearest by the frozen embedded encoder. What it says of the
10,003 training texts, whose labels are taken away, then moves the classes' centroids (self_train with the adaptation
classic); a second round asks the first. Accuracy on the whole test set, with gains over the nearest name paired over
its texts. Control: two rounds from names dealt out anew among the classes, which must not help.
"""

from __future__ import annotations

import csv
import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.record import Measured, finish
from luthier.evaluate.compare import compare
from luthier.pipeline import Run

from ._recipes import arguments_of, finding, outside, ran

__all__ = ["dealt", "main", "overrides"]

Rows = list[tuple[str, str]]
CENTROID = {"classic": {"kind": "centroid", "c": 20}}


def _read(name: str) -> Rows:
    with outside(f"tasks/banking77/{name}").open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def dealt(names: Sequence[str], seed: int) -> dict[str, str]:
    """What stands for each class: its name in words, in another order."""
    words = [name.replace("_", " ") for name in names]
    random.Random(seed).shuffle(words)
    return dict(zip(names, words, strict=True))


def _file(path: Path, rows: Sequence[Mapping[str, str | None]]) -> str:
    content = "".join(json.dumps(row) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != content:
        path.write_text(content, encoding="utf-8")
    return str(path)


def overrides(teacher: Run) -> list[str]:
    """A round: the classes' means of what this run says of the texts, beside the names themselves."""
    taught = {"self_train": {"teacher": str(teacher.folder), "confidence": 0.0, "unlabeled": 1000}}
    phase = {"name": "classify", "objective": taught, "adaptation": CENTROID, "max_length": 128}
    return ["data.steps=[]", f"phases={json.dumps([phase])}", "gates=[]"]


def _rounds(out: Path, words: Mapping[str, str], texts: Sequence[str], test: str) -> list[Run]:
    """The nearest name, and two rounds after it; every row that has a class is a class's own words."""
    rows: list[Mapping[str, str | None]] = [{"text": text, "label": name} for name, text in words.items()]
    named = _file(out / "names.jsonl", rows)
    whole = _file(out / "texts.jsonl", rows + [{"text": text, "label": None} for text in texts])
    found = [ran("zero-shot", [f"data.train.path={named}", test, "data.steps=[]", "gates=[]"], out / "names")]
    for number in (1, 2):
        own = [f"data.train.path={whole}", test, *overrides(found[-1])]
        found.append(ran("zero-shot", own, out / f"round-{number}"))
    return found


def _gain(title: str, run: Run, names: Run) -> list[Measured]:
    """Accuracy beside the nearest name's, and the gain with its interval over the test texts."""
    rows = [one for one in compare(names.folder, run.folder) if one.metric == "accuracy" and one.group is None]
    other, ours, gain = rows
    return [Measured(title, ours.value, other.value, gain.value, gain.low, gain.high)]


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("The classes' names, and texts that nobody labeled.", arguments)
    train, test = _read("train.csv"), _read("test.csv")
    if given.quick:
        chosen = sorted({name for _, name in train})[:6]
        train, test = ([row for row in rows if row[1] in chosen] for rows in (train, test))
    out = given.out / f"zero-shot{'-quick' if given.quick else ''}"
    measured = f"data.test.path={_file(out / 'test.jsonl', [{'text': text, 'label': name} for text, name in test])}"
    names = sorted({name for _, name in train})
    texts = [text for text, _ in train]
    plain = {name: name.replace("_", " ") for name in names}
    nearest, first, second = _rounds(out / "named", plain, texts, measured)
    accuracy = finding(nearest, "classification.accuracy", "tuned").value
    title = "Banking77, no label: accuracy after {} of the texts' own classes (other: nearest name; value: gain)"
    rows = [Measured("Banking77, no label: accuracy of the nearest name", accuracy, None, accuracy)]
    rows += _gain(title.format("one round"), first, nearest)
    rows += _gain(title.format("two rounds"), second, nearest)
    low = rows[-1].low
    if low is not None:
        rows.append(
            Measured("the lower bound of that gain's interval", low, None, low, floor=None if given.quick else 0.0)
        )
    _, _, wrong = _rounds(out / "dealt", dealt(names, 1), texts, measured)
    control = finding(wrong, "classification.accuracy", "tuned").value
    title = "control: names dealt out anew, two rounds: accuracy (value: what is lost)"
    rows.append(Measured(title, control, accuracy, accuracy - control, floor=None if given.quick else 0.0))
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
