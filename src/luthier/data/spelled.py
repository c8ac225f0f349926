"""Encoded rows as text for a terminal, so that what is learned can be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from ..core.contracts import Row
from ..core.printable import printable

if TYPE_CHECKING:
    from rich.text import Text
    from transformers import PreTrainedTokenizerBase

__all__ = ["spelled"]


def spelled(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Text:
    """The rows as text for a terminal: what is learned in green, the rest dim, special tokens spelled out and bold."""
    from rich.text import Text

    special = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    text = Text()
    for row in rows:
        learned = int(row.supervised.sum())
        text.append(f"{printable(row.id)}: {len(row.ids)} tokens, {learned} learned\n", style="bold")
        for style, ids in _runs(row, special):
            text.append(printable(tokenizer.decode(ids, skip_special_tokens=False)), style=style)
        text.append("\n")
    return text


def _runs(row: Row, special: set[int]) -> Iterator[tuple[str, list[int]]]:
    """Neighboring tokens of one kind, decoded together: a character may be spread over several tokens."""
    tokens = zip(row.ids.tolist(), row.supervised.tolist(), strict=True)
    for (learned, control), run in groupby(tokens, key=lambda token: (token[1], token[0] in special)):
        style = ("green" if learned else "dim") + (" bold underline" if control else "")
        yield style, [identifier for identifier, _ in run]
