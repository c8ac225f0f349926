"""Vectors of texts by the embedded encoder, kept in the experiments' folder under a digest of the texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["ENCODER", "features"]

ENCODER = "embedded:minilm"


def features(texts: Sequence[str], folder: Path) -> NDArray[np.float32]:
    """[N, 384], of unit length; read from the folder where the same texts were embedded before."""
    from luthier.models.embed import load_embedder

    digest = hashlib.sha256("\x00".join(texts).encode()).hexdigest()[:16]
    path = folder / f"vectors-{digest}.npy"
    if path.is_file():
        kept: NDArray[np.float32] = np.load(path)
        return kept
    print(f"embedding {len(texts)} texts", flush=True)
    found = load_embedder(ENCODER).embed(texts)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(path, found)
    return found
