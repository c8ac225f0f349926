"""Bits a byte of a language model beside xz, a trigram model and stories260K, on the same bytes.

Every byte is paid for once. A document is encoded as in training: windows that overlap by one token, an end token at
the end. What predicts a first token from nothing (a model without a begin token, the trigram) is charged the uniform
code for it, log2 of the number of pieces; the end token is charged too, and the bytes of the whole text divide.
"""

from __future__ import annotations

import lzma
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Measured
from luthier.core.recipe import Decoding
from luthier.data.encode import Encoding, encode_all
from luthier.evaluate.subject import ModelSubject
from luthier.functional.perplexity import bits_per_byte
from luthier.functional.statistics import Difference, Estimate, Resampling, bootstrap, paired_bootstrap
from luthier.models.roles import role_of
from luthier.objectives.causal_lm import CausalLM

from ._nano_texts import TextSet
from ._nano_trigram import Trigram
from ._recipes import outside

__all__ = ["Compared", "Neural", "Predictor", "TrigramPredictor", "compare", "rows_of", "stories260k", "xz_bits"]

Floats = NDArray[np.float64]
CHILDREN = 1.5
"""Bits a byte that held-out children's books may cost at most."""
NAMES = {"xz": "xz", "trigram": "trigram over the same pieces", "stories260k": "stories260K"}


class Predictor(Protocol):
    """What gives a document a probability."""

    def nats(self, texts: TextSet) -> Floats:
        """[n, 3] of each document: log-probability, tokens that were predicted, bytes."""
        ...


class Neural:
    """A language model over windows of `length` tokens, in the dtype it was loaded in."""

    def __init__(self, model: Any, tokenizer: Any, length: int) -> None:
        self.encoding = Encoding(tokenizer, max_length=length)
        self.role = role_of(model, tokenizer.pad_token_id)
        begins = bool(self.encoding.prompt(TextSet("probe", ["a"]).examples[0])[:1] == [tokenizer.bos_token_id])
        self.first = 0.0 if begins else float(np.log(len(tokenizer)))

    def nats(self, texts: TextSet) -> Floats:
        subject = ModelSubject("model", self.role, self.encoding, CausalLM(), Decoding(), seed=0)
        sums, tokens = subject.logps(texts.examples)
        return np.column_stack([sums - self.first, tokens, texts.bytes]).astype(np.float64)


class TrigramPredictor:
    """A trigram model over the pieces of `tokenizer`, counted from plain training documents."""

    def __init__(self, tokenizer: Any, documents: Sequence[str]) -> None:
        self.encoding = Encoding(tokenizer, max_length=2**40)
        self.pieces = len(tokenizer)
        self.trigram = Trigram(self._ids(TextSet("train", documents)), tokenizer.eos_token_id, self.pieces)

    def _ids(self, texts: TextSet) -> list[NDArray[np.int64]]:
        return [row.ids for row in encode_all(CausalLM(), texts.examples, self.encoding)]

    def nats(self, texts: TextSet) -> Floats:
        ids = self._ids(texts)
        sums = [self.trigram.log_probability(document) - np.log(self.pieces) for document in ids]
        return np.column_stack([sums, [len(document) - 1 for document in ids], texts.bytes]).astype(np.float64)


def stories260k() -> Neural:
    """The public model of the outside data, with its begin token between documents, as it was trained."""
    from tokenizers.processors import TemplateProcessing

    from luthier.models.llama2c import read_llama2c

    folder = outside("models/stories260K")
    model, tokenizer = read_llama2c(folder / "stories260K.bin", folder / "tok512.bin")
    begin = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begin[0]} $A {begin[0]}", special_tokens=[begin]
    )
    return Neural(model, tokenizer, 512)


def xz_bits(texts: TextSet) -> float:
    """Bits a byte of all documents end to end, by xz at its strongest preset (9 extreme), container included."""
    data = "".join(texts.texts).encode()
    return 8 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) / len(data)


@dataclass(frozen=True)
class Compared:
    """Bits a byte on one set: ours and the others' with intervals, and what each other costs more."""

    texts: TextSet
    estimates: Mapping[str, Estimate]
    more: Mapping[str, Difference]


def compare(texts: TextSet, ours: Predictor, others: Mapping[str, Predictor]) -> Compared:
    """Ours beside the others; intervals over documents, or over what they were cut from.

    xz sees the set as one, so that it has no interval of its own: the difference's comes from ours alone.
    """
    own = ours.nats(texts)
    resampling = Resampling(len(own), clusters=texts.clusters)
    estimates = {"ours": bootstrap(own, bits_per_byte, clusters=texts.clusters)}
    more = {}
    for name, other in others.items():
        values = other.nats(texts)
        estimates[name] = bootstrap(values, bits_per_byte, clusters=texts.clusters)
        more[name] = paired_bootstrap(own, values, bits_per_byte, resampling)
    packed, mine = xz_bits(texts), estimates["ours"]
    estimates["xz"] = Estimate(packed, None, None)
    low, high = (None if bound is None else packed - bound for bound in (mine.high, mine.low))
    more["xz"] = Difference(packed - mine.value, low, high, None)
    return Compared(texts, estimates, more)


def rows_of(found: Sequence[Compared], *, floors: bool) -> list[Measured]:
    """A row for each set and other side (value: what the other costs more), and one for the children's books."""
    rows = []
    for one in found:
        name, ours = one.texts.name, one.estimates["ours"]
        what = f"{name}, {len(one.texts.texts)} documents, {sum(one.texts.bytes):,} bytes"
        rows.append(Measured(f"{what}: bits a byte", ours.value, None, ours.value, ours.low, ours.high))
        for other, said in NAMES.items():
            more = one.more[other]
            rows.append(
                Measured(
                    f"{name}: bits a byte (other: {said}; value: other less ours)",
                    ours.value,
                    one.estimates[other].value,
                    more.value,
                    more.low,
                    more.high,
                    floor=0.0 if floors else None,
                )
            )
        if name == "children" and floors:
            under = CHILDREN - ours.value
            rows.append(Measured(f"children: how far under {CHILDREN} bits a byte", ours.value, None, under, floor=0.0))
    return rows
