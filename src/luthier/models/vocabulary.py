"""New tokens: the tokenizer learns to spell them in one piece, and the embedding gets a row for each.

    row of a new token = mean of the rows of the pieces that the old tokenizer cut it into

in the input embedding, and in the output layer (its bias too) where that is not tied to it. Source: Gee et al. 2022
(Fast Vocabulary Transfer, arXiv:2402.09977); a mean and no random row, since a random output row can take
probability from every other token (Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models").
Nothing here is random. Errors: ModelError for a token that cannot be cut, spelled back, or given an id of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import ModelError
from .tokens import vocabulary_size

__all__ = ["Grown", "grow"]


@dataclass(frozen=True)
class Grown:
    """What growing did. added: the tokens that are new, with ids `first`, `first` + 1, ...; known: those that were not.

    note: one sentence for a reader.
    """

    added: tuple[str, ...]
    first: int
    known: tuple[str, ...]

    @property
    def note(self) -> str:
        """What was added, and what was one piece already."""
        parts = []
        if self.added:
            parts.append(f"{len(self.added)} new tokens: {_list(self.added)}")
        if self.known:
            parts.append(f"already one piece, so not added: {_list(self.known)}")
        return "; ".join(parts)


def grow(model: Any, tokenizer: Any, tokens: Sequence[str]) -> Grown:
    """Adds `tokens` to the tokenizer and to the model, both changed in place.

    They are ordinary tokens: found wherever their exact text stands, and kept when special tokens are left out. The
    embedding grows only where the tokenizer outgrows it; rows that pad it beyond the tokenizer are used first.
    """
    from tokenizers import AddedToken

    vocabulary = tokenizer.get_vocab()
    cuts = {token: _cut(tokenizer, token) for token in tokens}
    known = tuple(token for token in tokens if token in vocabulary or _is_piece(tokenizer, cuts[token]))
    new = tuple(token for token in tokens if token not in known)
    first = vocabulary_size(tokenizer)
    if not new:
        return Grown((), first, known)
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in new])
    _check_ids(tokenizer, new, first)
    _check_spelling(tokenizer, new)
    needed = vocabulary_size(tokenizer)
    if needed > model.get_input_embeddings().weight.shape[0]:
        rows = model.get_input_embeddings().weight.shape[0]
        _resize(model, needed)
    else:
        rows = needed
    for table in _tables(model):
        with torch.no_grad():
            # Special tokens that the model came without rows for lie between its own and the new ones.
            table[rows:first] = table[:rows].float().mean(0).to(table.dtype)
            for row, token in enumerate(new, first):
                # In float32 and rounded once: a sum of bfloat16 rows would lose bits with every piece.
                table[row] = table[cuts[token]].float().mean(0).to(table.dtype)
    return Grown(new, first, known)


def _cut(tokenizer: Any, token: str) -> list[int]:
    """The ids that the tokenizer, as it is, cuts the text of `token` into."""
    ids: list[int] = tokenizer(token, add_special_tokens=False)["input_ids"]
    if not ids:
        raise ModelError(
            f"the tokenizer cuts {token!r} into nothing, so there are no pieces to start its row from",
            where="new_tokens",
            expected="tokens with text that the model's tokenizer keeps",
            remedy="remove it",
        )
    return ids


def _is_piece(tokenizer: Any, ids: Sequence[int]) -> bool:
    return len(ids) == 1 and ids[0] != tokenizer.unk_token_id


def _check_ids(tokenizer: Any, new: Sequence[str], first: int) -> None:
    """A vocabulary with holes in its ids would give a new token the id of an old one."""
    ids = tokenizer.convert_tokens_to_ids(list(new))
    if ids != list(range(first, first + len(new))):
        raise ModelError(
            f"the tokenizer gave the new tokens the ids {ids[:8]}, and its own end at {first - 1}",
            where="new_tokens",
            expected="a tokenizer whose ids have no holes",
            remedy="train without new_tokens: this tokenizer cannot take any",
        )


def _check_spelling(tokenizer: Any, new: Sequence[str]) -> None:
    """Byte-level tokenizers decode some letters of an added token as bytes: 'ß' comes back as a broken one."""
    ids = tokenizer.convert_tokens_to_ids(list(new))
    back = {token: tokenizer.decode([id], skip_special_tokens=True) for token, id in zip(new, ids, strict=True)}
    wrong = [token for token, text in back.items() if text.strip() != token.strip()]
    if wrong:
        raise ModelError(
            f"the tokenizer does not spell {_list(wrong)} as given: {back[wrong[0]]!r} in answers for {wrong[0]!r}",
            where="new_tokens",
            expected="tokens that come back unchanged; byte-level tokenizers garble many letters beyond ASCII",
            remedy="remove them: their pieces are spelled right",
        )


def _resize(model: Any, rows: int) -> None:
    device = model.get_input_embeddings().weight.device
    # transformers draws the new rows at random; all of them are set afterwards, and the global state stays as it was.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        model.resize_token_embeddings(rows, mean_resizing=False)


def _tables(model: Any) -> list[Tensor]:
    """The tensors with a row for each token, each once: input embedding, untied output layer, the output's bias."""
    table, output = model.get_input_embeddings(), model.get_output_embeddings()
    found = [table.weight]
    if output is not None:
        found.extend([output.weight] if output.weight is not table.weight else [])
        bias = getattr(output, "bias", None)
        found.extend([bias] if isinstance(bias, Tensor) else [])
    return found


def _list(tokens: Sequence[str]) -> str:
    more = f" and {len(tokens) - 8} more" if len(tokens) > 8 else ""
    return ", ".join(repr(token) for token in tokens[:8]) + more
