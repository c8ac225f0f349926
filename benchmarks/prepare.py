"""Preparing short rows: read, clean, near duplicates, tokenize, pack; ours beside `datasets.map` with datasketch.

    python -m benchmarks.prepare [--quick] [--json FILE]

Both sides get the same JSONL file (benchmarks._texts) and the same tokenizer, each in a process of its own with one
thread, ours and the peer's in turn. Both clean with the same rules, drop exact copies (but for case and spaces) and
rows whose 3-word shingles are at least 0.8 alike, with 128 permutations and verification, write what is left to disk,
tokenize it and lay whole rows into packs of at most 2,048 tokens. Ours also writes its ledger: every dropped and
changed row with its reason. The clock starts after the imports; the rows that are left must nearly be the same. Rates
are by processor time, and by the clock too where the machine was quiet. Memory is the most that was resident; for the
peer that includes the pages of its files that are mapped.

The rows are held in memory, so that bounded means: what the process takes grows by no more than LIMIT times what the
file grows. It is measured between 50,000 and 200,000 rows, which leaves out what any run takes; of a file of a
gigabyte it promises ten.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._texts import texts, write_rows
from benchmarks._turns import quiet
from benchmarks.record import Measured, finish

__all__ = ["growth_of", "main", "refuse_unlike", "rows_of"]

ROOT = Path(__file__).parent.parent
SIDES = {"ours": "benchmarks._prepare_ours", "other": "benchmarks._prepare_peer"}
FLOOR = 3.0
LIMIT = 10.0
"""Bytes of memory that a byte of the file may take: text, words, signature, 9 bytes a token, and what holds them."""
FEW_AND_MANY = (50_000, 200_000)
VOCABULARY = 16_384
Result = dict[str, Any]


def write_tokenizer(folder: Path) -> None:
    """A byte-level BPE tokenizer that was trained on rows of the same kind."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        texts(5_000, seed=3), vocab_size=VOCABULARY, special_tokens=["<|end|>"], show_progress=False
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, eos_token="<|end|>").save_pretrained(folder)


def measure(side: str, folder: Path, rows: int) -> Result:
    """One side's run in a process of its own. Errors: SystemExit with the end of its output when it fails."""
    file = folder / f"{rows}.jsonl"
    if not file.is_file():
        write_rows(file, rows)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        into = Path(work) / "result.json"
        settings = {"rows": str(file), "tokenizer": str(folder / "tokenizer"), "work": work, "into": str(into)}
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "ARROW_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": f"{work}/cache",
        }
        command = [sys.executable, "-m", SIDES[side], json.dumps(settings)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if done.returncode or not into.is_file():
            raise SystemExit(f"{SIDES[side]} failed with status {done.returncode}:\n{done.stderr[-3000:]}")
        size = file.stat().st_size
        result: Result = {"rows": rows, "file_bytes": size, **json.loads(into.read_text(encoding="utf-8"))}
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in result["stages"].items())
    print(
        f"  {side:5} {rows / result['seconds']:8,.0f} rows/s ({rows / result['cpu_seconds']:,.0f} a processor second), "
        f"{result['grown_bytes'] / rows:,.0f} bytes a row at the peak; processor seconds: {stages}",
        flush=True,
    )
    return result


def compare(folder: Path, rows: int, pairs: int) -> list[dict[str, Result]]:
    """Pairs of runs, ours and the peer's in turn; who goes first changes with each pair."""
    print(f"{rows:,} rows", flush=True)
    found = []
    for pair in range(pairs):
        order = tuple(SIDES) if pair % 2 == 0 else tuple(reversed(SIDES))
        found.append({side: measure(side, folder, rows) for side in order})
        refuse_unlike(found[-1])
    return found


def refuse_unlike(pair: Mapping[str, Result]) -> None:
    """Both must keep nearly the same rows: banding is by chance, and each side draws its own permutations.

    Errors: SystemExit where more than 0.2 % of the rows are kept by one side only, or where rows that both keep differ
    in their text or in their number of tokens.
    """
    ours, other = ({number: tuple(rest) for number, *rest in pair[side]["kept"]} for side in ("ours", "other"))
    alone = ours.keys() ^ other.keys()
    if len(alone) > 0.002 * pair["ours"]["rows"]:
        raise SystemExit(f"{len(alone)} of {pair['ours']['rows']} rows are kept by one side only")
    unlike = sum(ours[number] != other[number] for number in ours.keys() & other.keys())
    if unlike:
        raise SystemExit(f"{unlike} rows differ in text or tokens between the sides: they do different work")


def rows_of(rows: int, pairs: Sequence[Mapping[str, Result]], floor: float | None = FLOOR) -> list[Measured]:
    """The comparison's lines: rows a second of the processor, of the clock where all were quiet, and peak memory."""

    def rates(name: str, key: str, low: float | None) -> Measured:
        found = {side: [rows / pair[side][key] for pair in pairs] for side in SIDES}
        ratios = [pair["other"][key] / pair["ours"][key] for pair in pairs]
        middle = statistics.median
        return Measured(name, middle(found["ours"]), middle(found["other"]), *_spread(ratios), floor=low)

    smaller = [pair["other"]["peak_bytes"] / pair["ours"]["peak_bytes"] for pair in pairs]
    ours, other = (statistics.median(pair[side]["peak_bytes"] for pair in pairs) / 1e6 for side in ("ours", "other"))
    grown = [statistics.median(pair[side]["grown_bytes"] / rows for pair in pairs) for side in SIDES]
    name = f"{rows:,} rows"
    times = [{"wall": run["seconds"], "cpu": run["cpu_seconds"]} for pair in pairs for run in pair.values()]
    return [
        rates(f"{name}: rows a processor second", "cpu_seconds", floor),
        *([rates(f"{name}: rows/s", "seconds", floor)] if quiet(times, 1) else []),
        Measured(f"{name}: peak memory, MB (value: other over ours)", ours, other, *_spread(smaller)),
        Measured(f"{name}: memory over the imports', bytes a row (value: ours)", grown[0], grown[1], grown[0]),
    ]


def growth_of(few: Sequence[Mapping[str, Result]], many: Sequence[Mapping[str, Result]]) -> Measured:
    """Memory that more rows take, over what they take in their file; one number for each pair of few and of many."""

    def times(side: str) -> list[float]:
        return [
            (more[side]["peak_bytes"] - less[side]["peak_bytes"])
            / (more[side]["file_bytes"] - less[side]["file_bytes"])
            for less, more in zip(few, many, strict=True)
        ]

    ours, other = times("ours"), times("other")
    name = f"from {few[0]['ours']['rows']:,} to {many[0]['ours']['rows']:,} rows: growth of memory over the file's"
    return Measured(
        f"{name} (value: {LIMIT:g} less ours)",
        statistics.median(ours),
        statistics.median(other),
        *_spread([LIMIT - each for each in ours]),
        floor=0.0,
    )


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Preparing short rows beside datasets.map and datasketch.")
    parser.add_argument("--quick", action="store_true", help="one pair on 10,000 rows, no floors")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args(arguments)
    plan = {10_000: 1} if given.quick else dict.fromkeys(FEW_AND_MANY, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tokenizer(folder / "tokenizer")
        found = {rows: compare(folder, rows, pairs) for rows, pairs in plan.items()}
    floor = None if given.quick else FLOOR
    rows = [row for count, pairs in found.items() for row in rows_of(count, pairs, floor)]
    return finish(rows if given.quick else [*rows, growth_of(*found.values())], given.json)


if __name__ == "__main__":
    sys.exit(main())
