"""The peer's side of the preparation benchmark: `datasets` for the rows, datasketch for near copies, TRL for packs.

Everything is done in batches, as each library does it fastest: signatures by MinHash.bulk with xxhash, the same bands
as ours, similarity verified on the shingles themselves. Rows are cleaned with our rules, called on texts alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import datasets
import xxhash
from datasketch import MinHash, MinHashLSH
from transformers import AutoTokenizer
from trl import pack_dataset

from benchmarks._preparing import PACK, PERMUTATIONS, SHINGLE, THRESHOLD, Kept, Stages, digest, worker
from luthier.data.steps.clean import Clean, _cleaned, _is_about_code
from luthier.data.steps.deduplicate import _normalized
from luthier.functional.minhash import bands_for

WORD = re.compile(r"\w+|[^\w\s]")
BATCH = 1000
Columns = dict[str, list[Any]]


def run(settings: Mapping[str, str]) -> tuple[dict[str, Any], list[Kept]]:
    """Reads, cleans, drops copies, tokenizes and packs; each stage's rows lie in a file, as `datasets` keeps them."""
    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(settings["tokenizer"])
    stages = Stages()
    rows = stages.run("read", lambda: datasets.load_dataset("json", data_files=settings["rows"], split="train"))
    rows = stages.run("clean", lambda: cleaned(rows))
    rows = stages.run("exact copies", lambda: without_exact(rows))
    rows = stages.run("near copies", lambda: rows.select(survivors(rows)))
    rows = stages.run("write", lambda: rows.flatten_indices())
    encoded = stages.run("tokenize", lambda: tokenized(rows, tokenizer))
    stages.run("pack", lambda: pack_dataset(encoded.select_columns("input_ids"), PACK, strategy="bfd"))
    result = stages.result()
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return result, [
        (row, digest(text), length) for row, text, length in zip(rows["row"], rows["text"], lengths, strict=True)
    ]


def cleaned(rows: datasets.Dataset) -> datasets.Dataset:
    """The cleaned texts with their lines in the file; empty ones left out."""
    step = Clean.model_validate({})
    plain, marked = tuple(step._chosen(False)), tuple(step._chosen(True))

    def clean(text: str) -> str:
        text = _cleaned(text, plain, {})
        if ("<" in text or "&" in text) and not _is_about_code(text):
            text = _cleaned(text, marked, {})
        return text

    def batch(columns: Columns, places: list[int]) -> Columns:
        texts = [(place + 1, clean(text)) for place, text in zip(places, columns["text"], strict=True)]
        kept = [(row, text) for row, text in texts if text.strip()]
        return {"row": [row for row, _ in kept], "text": [text for _, text in kept]}

    return rows.map(batch, batched=True, with_indices=True, batch_size=BATCH)


def without_exact(rows: datasets.Dataset) -> datasets.Dataset:
    """The first of all rows that are equal but for case and spaces."""
    seen: set[bytes] = set()

    def batch(texts: list[str]) -> list[bool]:
        fresh = []
        for text in texts:
            key = xxhash.xxh128_digest(_normalized(text).encode())
            fresh.append(key not in seen)
            seen.add(key)
        return fresh

    return rows.filter(batch, batched=True, input_columns="text", batch_size=BATCH)


def shingles(text: str) -> set[str]:
    """Every three successive words, or all words of a shorter text."""
    words = WORD.findall(text.casefold())
    return {" ".join(words[place : place + SHINGLE]) for place in range(max(len(words) - SHINGLE + 1, 1))}


def survivors(rows: datasets.Dataset) -> list[int]:
    """The first row of each cluster of near copies."""
    texts: list[str] = rows["text"][:]
    index = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS, params=bands_for(THRESHOLD, PERMUTATIONS))
    parent = list(range(len(texts)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    for begin in range(0, len(texts), BATCH):
        sets = [shingles(text) for text in texts[begin : begin + BATCH]]
        encoded = [[shingle.encode() for shingle in some] for some in sets]
        signatures = MinHash.bulk(encoded, num_perm=PERMUTATIONS, hashfunc=xxhash.xxh32_intdigest)
        for number, (own, signature) in enumerate(zip(sets, signatures, strict=True), begin):
            for earlier in index.query(signature):
                other = shingles(texts[earlier])
                if len(own & other) >= THRESHOLD * len(own | other):
                    first, second = sorted((root(number), root(earlier)))
                    parent[second] = first
            index.insert(number, signature, check_duplication=False)
    return [number for number in range(len(texts)) if root(number) == number]


def tokenized(rows: datasets.Dataset, tokenizer: Any) -> datasets.Dataset:
    """The token ids of each row, with its end token."""

    def batch(texts: list[str]) -> Columns:
        found = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False)
        return {"input_ids": [[*ids, tokenizer.eos_token_id] for ids in found["input_ids"]]}

    return rows.map(batch, batched=True, input_columns="text", remove_columns=["row", "text"], batch_size=BATCH)


if __name__ == "__main__":
    worker(run)
