"""Our side of the preparation benchmark: the functions that a run's stages call, in their order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet
from transformers import AutoTokenizer

from benchmarks._preparing import PACK, PERMUTATIONS, SHINGLE, THRESHOLD, Kept, Stages, digest, worker
from luthier.core.contracts import Batch, Row
from luthier.core.recipe import Data, PerStep
from luthier.data import prepare
from luthier.data.encode import Encoding, encode_all
from luthier.data.stream import Stream
from luthier.functional.packing import pack
from luthier.objectives.causal_lm import CausalLM

STEP = {"threshold": THRESHOLD, "shingle": SHINGLE, "permutations": PERMUTATIONS}
assert pyarrow.parquet  # both sides import it before the clock starts


def run(settings: Mapping[str, str]) -> tuple[dict[str, Any], list[Kept]]:
    """Prepares, saves, loads, encodes and packs, as the stages of a run do."""
    tokenizer = AutoTokenizer.from_pretrained(settings["tokenizer"])
    data = Data.model_validate({"train": settings["rows"], "steps": ["clean", {"deduplicate": STEP}]})
    folder = Path(settings["work"]) / "data"
    stages = Stages()
    stages.run("read, clean, deduplicate, write", lambda: prepare.save(prepare.prepare(data, 1), folder))
    examples = stages.run("load", lambda: prepare.load_splits(folder)["train"])
    rows = stages.run("tokenize", lambda: encode_all(CausalLM(), examples, Encoding(tokenizer, max_length=PACK)))
    stages.run("pack", lambda: sum(len(batch.ids) for batch in packs(rows)))
    result = stages.result()
    return result, [
        (example.origin.row, digest(example.text()), len(row.ids)) for example, row in zip(examples, rows, strict=True)
    ]


def packs(rows: list[Row]) -> Iterator[Batch]:
    """One epoch's batches."""
    stream = Stream([len(row.ids) for row in rows], PerStep(tokens=PACK), 1)
    for step in range(stream.steps_in(1)):
        yield pack([rows[index] for index in stream.rows_of(step)])


if __name__ == "__main__":
    worker(run)
