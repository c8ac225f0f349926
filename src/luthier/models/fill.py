"""What a masked language model would write in a word's place: whole words with their probabilities, packed.

    filler = load_filler("runs/words")
    filler.words([("What is my ", " account?")], 10)       # [[("bank", 0.31), ("new", 0.09), ...]]

A word is one token of the vocabulary that begins a word and consists of letters. Of a text longer than the model takes,
what stands next to the mask is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.contracts import Row
from ..core.errors import ModelError
from ..functional.packing import micro_batches, pack
from .attention import still
from .load import load_model
from .roles import Role, role_of

__all__ = ["Filler", "load_filler"]

Candidates = list[tuple[str, float]]


@dataclass(frozen=True)
class Filler:
    """A masked language model. max_length: tokens of a text; micro_tokens: tokens in one forward pass."""

    role: Role
    tokenizer: Any
    max_length: int
    micro_tokens: int = 2048

    def words(self, gaps: Sequence[tuple[str, str]], top: int) -> list[Candidates]:
        """For each text with a gap, (before, after), the most probable words for it, at most `top`, best first.

        Probabilities are the model's, over its whole vocabulary.
        """
        found: list[Candidates] = [[] for _ in gaps]
        tokens = [self._tokens(*gap) for gap in gaps]
        lengths = [len(ids) for ids, _ in tokens]
        order = sorted(range(len(gaps)), key=lambda at: (-lengths[at], at))
        device = next(self.role.model.parameters()).device
        whole = torch.from_numpy(self._whole).to(device)
        with still(self.role.model), torch.no_grad():
            for chosen in micro_batches(order, lengths, self.micro_tokens):
                rows = [Row(str(at), tokens[at][0], np.arange(lengths[at]) == tokens[at][1]) for at in chosen]
                logits = self.role.mask_logits(pack(rows).to(device)).float()
                chances = logits.softmax(-1)[:, : len(whole)] * whole[: logits.shape[1]]
                best = chances.topk(min(top, chances.shape[1]), dim=-1)
                for at, values, ids in zip(chosen, best.values.tolist(), best.indices.tolist(), strict=True):
                    found[at] = [
                        (self._spelled[token], value) for token, value in zip(ids, values, strict=True) if value > 0
                    ]
        return found

    def _tokens(self, before: str, after: str) -> tuple[NDArray[np.int64], int]:
        """The text's tokens with the mask in the gap, between the tokenizer's special tokens, and the mask's place."""
        begin, end = self._frame
        room = self.max_length - len(begin) - len(end) - 1
        # A space before a mask belongs to it where tokens carry the space before a word.
        left, right = self._letters(before.rstrip()), self._letters(after)
        spare = max(room - len(right), room // 2)
        left = left[max(len(left) - spare, 0) :]
        ids = [*begin, *left, self.tokenizer.mask_token_id, *right[: room - len(left)], *end]
        return np.array(ids, dtype=np.int64), len(begin) + len(left)

    def _letters(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)[
            "input_ids"
        ]
        return ids

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer itself puts before and after a text."""
        whole: list[int] = self.tokenizer("a", verbose=False)["input_ids"]
        plain = self._letters("a")
        at = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
        return whole[:at], whole[at + len(plain) :]

    @cached_property
    def _spelled(self) -> list[str]:
        """[V] each token that is a whole word as text, the others empty."""
        vocabulary: dict[str, int] = self.tokenizer.get_vocab()
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        spaced = any(token.startswith(("Ġ", "▁")) for token in vocabulary)
        words = [""] * (max(vocabulary.values()) + 1)
        for token, number in vocabulary.items():
            if number in special or token.startswith("##") or (spaced and not token.startswith(("Ġ", "▁"))):
                continue
            text = str(self.tokenizer.convert_tokens_to_string([token])).strip()
            words[number] = text if text.isalpha() else ""
        return words

    @cached_property
    def _whole(self) -> NDArray[np.float32]:
        """[V] 1 for each token that is a whole word, else 0."""
        return np.array([float(bool(text)) for text in self._spelled], dtype=np.float32)


def load_filler(source: str) -> Filler:
    """The masked language model that `source` names (what `model:` in a recipe may name).

    Errors: ModelError as load_model; for a model without a trained head or whose tokenizer has no mask token.
    """
    loaded = load_model(source, "masked_lm")
    remedy = "train one on text like yours with the objective masked_lm, or give a folder that holds one"
    if loaded.fresh:
        raise ModelError(
            "the model has no output layer for masked words yet",
            where=source,
            expected="a masked language model, trained as one",
            remedy=remedy,
        )
    if loaded.tokenizer.mask_token_id is None:
        raise ModelError("the model's tokenizer has no mask token", where=source, remedy=remedy)
    role = role_of(loaded.model, loaded.tokenizer.pad_token_id)
    positions = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    limits = [loaded.tokenizer.model_max_length, 512, None if positions is None else positions - (role.offset or 0)]
    return Filler(role, loaded.tokenizer, min(int(limit) for limit in limits if limit is not None))
