"""A vector of each row's text: by an encoder, or hashed words where none is named."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ..core.example import Example
from ..functional.hashed import hashed_vectors
from .columnar import batched

__all__ = ["vectors_of"]

_TOGETHER = 2**12


def vectors_of(rows: Iterable[Example], count: int, encoder: str | None) -> NDArray[np.float32]:
    """[count, width] of unit length, or zeros for a row without a word; rows are asked for in their order, once.

    encoder: what `model:` in a recipe may name; None: log counts of 1,024 hashed words, rare ones weighted up.
    Errors: as load_embedder.
    """
    if encoder is None or not count:
        return hashed_vectors((example.text() for example in rows), count)
    from ..models.embed import load_embedder

    embedder = load_embedder(encoder)
    found = np.empty((count, embedder.width), np.float32)
    done = 0
    for some in batched(rows, _TOGETHER):
        found[done : done + len(some)] = embedder.embed([example.text() for example in some])
        done += len(some)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    found /= np.maximum(lengths, np.finfo(np.float32).tiny)
    return found
