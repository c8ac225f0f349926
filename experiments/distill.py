"""Does a two-layer student learn more with a teacher than without, and what is it worth? Banking77, MiniLM.

    python -m experiments.distill [--quick] [--json FILE]

The teacher is the recipe `intents`, the embedded encoder of six layers tuned in full. The student begins as two layers
of it with its head, and learns the teacher's probabilities and the states of two of its layers beside the labels. Two
controls have the same layers, rows, epochs and rate, and learn from the labels alone: one begins as two layers of the
encoder as it ships, so that nothing of a teacher is in it; the other as the student does, so that what is learned is
told from where it begins. Accuracy on the whole test set, for three seeds, each with a teacher of its own; gains are
paired over the seeds. Speed is that of the encoder with its head on the test texts, packed, in turns, beside the
teacher's.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.record import Measured, finish
from luthier.core.contracts import Batch
from luthier.core.example import Example, Origin
from luthier.data.encode import Encoding
from luthier.functional.packing import micro_batches, pack
from luthier.models.attention import still
from luthier.models.load import load_model
from luthier.models.roles import Role, role_of

from ._recipes import arguments_of, finding, outside, ran
from ._seeds import mean_interval

__all__ = ["STUDENT", "begun", "main", "taught", "times"]

STUDENT = ["phases.0.keep_layers=[1, 4]", "optimizer.adamw.lr=4e-4", "epochs=20", "gates=[]"]
LEARNED = "temperature: 4.0, hard: 0.1, layers: [[0, 2], [1, 5]], state_distance: cosine, state_weight: 10"
KEPT, FASTER = 0.97, 2.0
MICRO_TOKENS = 4096


def begun(teacher: Path) -> list[str]:
    """A student that begins as layers of this teacher, with a head that knows the classes."""
    return [f"model={teacher}", "adaptation=full"]


def taught(teacher: Path) -> str:
    """The student's objective with this teacher."""
    return f"phases.0.objective={{distill_classify: {{teacher: {teacher}, {LEARNED}}}}}"


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def _file(name: str, out: Path, quick: bool) -> Path:
    """The published split; quick: a few rows of four classes, beside the runs."""
    file = outside(f"tasks/banking77/{name}.csv")
    if not quick:
        return file
    rows = _rows(file)
    chosen = sorted({row["category"] for row in rows})[:4]
    few = out / f"{name}.csv"
    out.mkdir(parents=True, exist_ok=True)
    with few.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, ["text", "category"])
        writer.writeheader()
        for one in chosen:
            writer.writerows([row for row in rows if row["category"] == one][:30])
    return few


def _opened(folder: Path, texts: Sequence[str]) -> tuple[Role, list[Batch]]:
    loaded = load_model(str(folder), "sequence_classification")
    encoding = Encoding(loaded.tokenizer, max_length=128)
    given = (Example(str(n), {"text": text}, Origin("texts", n + 1)) for n, text in enumerate(texts))
    rows = sorted((row for one in given for row in encoding.sequence(one)), key=lambda row: len(row.ids))
    lengths = [len(row.ids) for row in rows]
    cut = micro_batches(range(len(rows)), lengths, MICRO_TOKENS)
    return role_of(loaded.model, loaded.tokenizer.pad_token_id), [pack([rows[at] for at in part]) for part in cut]


def times(teacher: Path, student: Path, texts: Sequence[str], turns: int = 7) -> list[float]:
    """How many times as fast the student is, for each of some turns after one that is not timed."""
    sides = [_opened(folder, texts) for folder in (teacher, student)]
    found = []
    for turn in range(turns + 1):
        spent = []
        for role, batches in sides:
            begun = time.perf_counter()
            with still(role.model), torch.no_grad():
                for batch in batches:
                    role.class_logits(batch)
            spent.append(time.perf_counter() - begun)
        if turn:
            found.append(spent[0] / spent[1])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("A two-layer student with and without a teacher.", arguments)
    quick = given.quick
    out = given.out / f"distill{'-quick' if quick else ''}"
    files = [f"data.{name}={_file(name, out, quick)}" for name in ("train", "test")]
    short = ["epochs=", "steps=4", "gates=[]"] if quick else []
    found = []
    for seed in range(1, 2 if quick else 4):
        own = [*files, f"seed={seed}"]
        teacher = ran("intents", [*own, *short], out / f"teacher-{seed}")
        plain = ran("intents", [*own, *STUDENT, *short], out / f"plain-{seed}")
        start = [*own, *STUDENT, *short, *begun(teacher.folder)]
        same = ran("intents", start, out / f"same-{seed}")
        student = ran("intents", [*start, taught(teacher.folder)], out / f"student-{seed}")
        runs = (teacher, plain, same, student)
        found.append([finding(run, "classification.accuracy", "tuned").value for run in runs])
    whole, without, begins_alike, with_teacher = np.array(found).T
    gain, low, high = mean_interval(with_teacher - without)
    title = "Banking77, two layers: accuracy with a teacher (other: without)"
    rows = [Measured(title, float(with_teacher.mean()), float(without.mean()), gain, low, high)]
    if low is not None:
        rows.append(Measured("the lower bound of that gain's interval", low, None, low, floor=0.0))
    gain, low, high = mean_interval(with_teacher - begins_alike)
    title = "two layers: accuracy with a teacher (other: begun as its layers, from labels alone)"
    rows.append(Measured(title, float(with_teacher.mean()), float(begins_alike.mean()), gain, low, high))
    share, low, high = mean_interval(with_teacher / whole)
    limit = None if quick else KEPT
    title = "two layers with a teacher: share of its accuracy (other: the teacher's)"
    rows.append(Measured(title, float(with_teacher.mean()), float(whole.mean()), share, low, high, limit))
    texts = [row["text"] for row in _rows(_file("test", out, quick))]
    faster = times(teacher.model, student.model, texts, 3 if quick else 7)
    middle = float(np.median(faster))
    title = "two layers: times the teacher's speed, texts a second"
    rows.append(Measured(title, middle, 1.0, middle, min(faster), max(faster), None if quick else FASTER))
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
