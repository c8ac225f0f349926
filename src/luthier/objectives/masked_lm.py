"""Masked language modeling: words hidden from an encoder, which tells them by what stands on both sides.

A share of each row's tokens is chosen: most become the mask token, some another token, some stay. The loss of a step is
the sum over the chosen tokens of the whole step divided by their number (nats a token). Each epoch hides other tokens,
drawn from seed, epoch and row id, so that a resumed run hides the same; what is measured hides the same in every epoch
and run. Source: Devlin et al. 2019 (arXiv:1810.04805), section 3.1 and appendix A; masks anew in each epoch: Liu et al.
2019 (arXiv:1907.11692). Errors: a DataError for a tokenizer without a mask token, and for rows without text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from ..core.contracts import Batch, Bools, Encoder, Ints, Models, Objective, Row, Task, Term
from ..core.errors import DataError, Problem
from ..core.example import Example

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from ..core.recipe import Phase, Recipe

__all__ = ["MaskedLM"]

_MEASURED = -1  # the "epoch" of rows as they are encoded: those that are measured, and those that nothing renews


class MaskedLM(Objective):
    """Hides tokens of texts that are cut into windows of max_length; special tokens are never hidden.

    share: of a row's tokens that are chosen, rounded, and one at least. masked, replaced: of those, the shares that
    become the mask token, and another token at random; the rest stays as it is. whole_words: all tokens of a word are
    chosen together, as long as they fit into the share.
    """

    example: ClassVar[dict[str, Any]] = {"share": 0.2, "whole_words": True}
    needs: ClassVar[frozenset[str]] = frozenset({"text"})
    task: ClassVar[Task] = "masked_lm"
    share: float = Field(0.15, gt=0, lt=1)
    masked: float = Field(0.8, ge=0, le=1)
    replaced: float = Field(0.1, ge=0, le=1)
    whole_words: bool = False

    @model_validator(mode="after")
    def _whole(self) -> MaskedLM:
        if self.masked + self.replaced > 1 + 1e-9:
            raise ValueError(
                f"masked and replaced are {self.masked + self.replaced:g} together, and more than all is 1"
            )
        return self

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        from ..data.windows import overlong_problems

        return overlong_problems(phase)

    def survey(self, examples: Sequence[Example]) -> dict[str, Any]:
        """hidden: the share of tokens that is hidden, also where the model is measured."""
        return {"hidden": self.share}

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        if "text" not in example.parts:
            raise DataError(
                f"the row '{example.id}' has the parts {', '.join(example.parts) or '(none)'}",
                where=str(example.origin),
                expected="text, for the objective masked_lm",
            )
        hide = self.renewal(encoder, 0)
        return [hide(row, _MEASURED) for row in encoder.windows(example)]

    def renewal(self, encoder: Encoder, seed: int) -> Callable[[Row, int], Row]:
        pieces = _pieces(encoder.tokenizer)

        def hidden(row: Row, epoch: int) -> Row:
            return self._hidden(row, pieces, _Draws.of(seed, epoch, row.id))

        return hidden

    def _hidden(self, row: Row, pieces: _Pieces, draws: _Draws) -> Row:
        assert row.targets is not None
        places = np.flatnonzero(row.targets >= 0)
        if not len(places):
            return replace(row, supervised=np.zeros(len(row.ids), dtype=np.bool_))
        plain = row.targets[places]
        wanted = max(1, round(self.share * len(places)))
        chosen = (
            _words(pieces.goes_on[plain], places, wanted, draws) if self.whole_words else draws.some(places, wanted)
        )
        ids = np.where(row.targets >= 0, row.targets, row.ids)
        fate = draws.uniform(len(chosen))
        others = pieces.usual[draws.below(len(pieces.usual), len(chosen))]
        swapped = np.where(fate < self.masked + self.replaced, others, ids[chosen])
        ids[chosen] = np.where(fate < self.masked, pieces.mask, swapped)
        supervised = np.zeros(len(ids), dtype=np.bool_)
        supervised[chosen] = True
        return replace(row, ids=ids, supervised=supervised)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        from ..functional.packing import segment_sum, sequence_index

        per_sequence = segment_sum(batch.supervised.float(), sequence_index(batch.starts), batch.size)
        return {"nll": per_sequence * batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        from ..functional.packing import segment_sum, sequence_index

        alike = bool((batch.weights == batch.weights[:1]).all())
        logps = models.policy.logps(batch, alike=alike)
        index = sequence_index(batch.starts)[batch.supervised]
        return [Term("nll", segment_sum(-logps, index, batch.size) * batch.weights)]


@dataclass(frozen=True)
class _Pieces:
    """What is to be known of a vocabulary: mask token, ordinary tokens, and [V] whether a token goes on with a word."""

    mask: int
    usual: Ints
    goes_on: Bools


@lru_cache(maxsize=4)
def _pieces(tokenizer: PreTrainedTokenizerBase) -> _Pieces:
    if tokenizer.mask_token_id is None:
        raise DataError(
            "the model's tokenizer has no mask token",
            expected="an encoder's tokenizer, with mask_token, for the objective masked_lm",
            remedy="choose an encoder such as embedded:minilm, or the objective causal_lm for a decoder",
        )
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    usual = sorted(number for number in vocabulary.values() if number not in special)
    spaced = any(token.startswith(("Ġ", "▁")) for token in vocabulary)
    goes_on = np.zeros(max(vocabulary.values()) + 1, dtype=np.bool_)
    for token, number in vocabulary.items():
        # WordPiece marks what goes on; byte-level and SentencePiece vocabularies mark what begins after a space.
        goes_on[number] = token.startswith("##") if not spaced else token[:1].isalnum()
    return _Pieces(int(tokenizer.mask_token_id), np.array(usual, dtype=np.int64), goes_on)


def _words(goes_on: Bools, places: Ints, wanted: int, draws: _Draws) -> Ints:
    """[about `wanted`] of `places`, whole words in random order as long as they fit; one word at least."""
    begins = ~goes_on
    begins[1:] |= np.diff(places) > 1
    begins[0] = True
    words = np.split(places, np.flatnonzero(begins)[1:])
    taken: list[Ints] = []
    left = wanted
    order = draws.order(len(words))
    for number in order:
        if len(words[number]) <= left:
            taken.append(words[number])
            left -= len(words[number])
        if not left:
            break
    return np.sort(np.concatenate(taken or [words[order[0]]]))


class _Draws:
    """Random numbers of one row in one epoch: raw bits of PCG64, which numpy promises never to change."""

    def __init__(self, bits: np.random.PCG64) -> None:
        self._bits = bits

    @classmethod
    def of(cls, seed: int, epoch: int, row: str) -> _Draws:
        digest = hashlib.sha256(f"{seed}:{epoch}:{row}".encode()).digest()
        return cls(np.random.PCG64(int.from_bytes(digest[:16], "big")))

    def order(self, count: int) -> Ints:
        """A permutation of 0 to count - 1."""
        found: Ints = np.argsort(self._bits.random_raw(count), kind="stable")
        return found

    def some(self, places: Ints, count: int) -> Ints:
        """So many of the places, in their order."""
        found: Ints = np.sort(places[self.order(len(places))[:count]])
        return found

    def uniform(self, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Numbers from 0 up to 1."""
        found: np.ndarray[Any, np.dtype[np.float64]] = self._bits.random_raw(count) / 2**64
        return found

    def below(self, bound: int, count: int) -> Ints:
        """Whole numbers from 0 to bound - 1."""
        found: Ints = np.minimum((self.uniform(count) * bound).astype(np.int64), bound - 1)
        return found
