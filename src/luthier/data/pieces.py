"""Tokens of texts by pieces that come again: a word's tokens are found once, not each time that it stands in a row.

A byte-level tokenizer cuts a text by a fixed expression before its model sees anything, and each cut is tokenized by
itself. The expressions known here cut before every space that follows a visible ASCII character and precedes an ASCII
letter, whatever else stands in the text; so the tokens of a text are those of its pieces between such places. Other
tokenizers are asked for whole texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Pieces", "by_pieces", "cuts_at_words"]

Tokenize = Callable[[list[str]], list[list[int]]]

_CUT = re.compile(r"(?<=[!-~])(?= [A-Za-z])")
_MOST = 2**17  # pieces that are remembered
_LONGEST = 32  # characters of a piece that is remembered: longer ones seldom come again
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_EXPRESSIONS = (_WORDS + r"|\p{N}{1,3}" + _REST, _WORDS + r"|\p{N}" + _REST)  # of Llama 3 and of Qwen 2


class Pieces:
    """Token ids of texts, from a tokenizer's `tokenize` for lists of texts, for which `cuts_at_words` holds."""

    def __init__(self, tokenize: Tokenize) -> None:
        self._tokenize = tokenize
        self._known: dict[str, list[int]] = {}

    def __call__(self, texts: list[str]) -> list[list[int]]:
        cut = [_CUT.split(text) for text in texts]
        if len(self._known) > _MOST:
            self._known.clear()
        new = [piece for piece in dict.fromkeys(chain.from_iterable(cut)) if piece not in self._known]
        if new:
            self._known.update(zip(new, self._tokenize(new), strict=True))
        found = [list(chain.from_iterable(map(self._known.__getitem__, pieces))) for pieces in cut]
        for piece in new:
            if len(piece) > _LONGEST:
                del self._known[piece]
        return found


def by_pieces(tokenizer: PreTrainedTokenizerBase, tokenize: Tokenize) -> Tokenize:
    """`tokenize`, a function of lists of texts that asks the tokenizer; by pieces where that gives the same tokens."""
    return Pieces(tokenize) if cuts_at_words(tokenizer) else tokenize


def cuts_at_words(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer is known to cut texts as this module does: by GPT-2's, Llama 3's or Qwen 2's expression."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.normalizer is not None or backend.pre_tokenizer is None:
        return False
    if getattr(backend.model, "dropout", None) or any(not t.special for t in tokenizer.added_tokens_decoder.values()):
        return False
    state = json.loads(backend.pre_tokenizer.__getstate__())
    *before, last = state["pretokenizers"] if state["type"] == "Sequence" else [state]
    if last["type"] != "ByteLevel" or last["add_prefix_space"]:
        return False
    if last["use_regex"]:
        return all(step["type"] == "Digits" for step in before)
    return len(before) == 1 and _splits(before[0])


def _splits(step: Mapping[str, Any]) -> bool:
    """Whether the step cuts by one of the expressions, and keeps all that stands between the cuts."""
    return (
        step["type"] == "Split"
        and step["pattern"].get("Regex") in _EXPRESSIONS
        and step["behavior"] == "Isolated"
        and not step["invert"]
    )
