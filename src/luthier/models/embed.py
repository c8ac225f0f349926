"""Vectors of texts from an encoder: sorted by length, packed end to end without padding, pooled as its folder says.

    embedder = load_embedder("embedded:minilm", dtype=torch.bfloat16)
    vectors = embedder.embed(["a violin", "a cello"])      # [2, 384] float32, unit length

Results are those of sentence-transformers' `encode` but for rounding, with two exceptions: control tokens that a text
spells are letters like any others, and a text without a token is the zero vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.contracts import Row
from ..core.errors import DataError
from ..functional.packing import micro_batches, pack
from .attention import still
from .fused import fuse_biases
from .load import load_model
from .pooling import Pooling, pool
from .roles import Role, role_of

__all__ = ["Embedder", "load_embedder"]

_TOGETHER = 2**14
"""Texts that are tokenized and sorted together: enough for equal lengths to meet, and a bound for memory."""


@dataclass(frozen=True)
class Embedder:
    """A model that gives a vector for a text. max_length: tokens of a text, special ones included; more are cut off.

    micro_tokens: tokens in one forward pass.
    """

    role: Role
    tokenizer: Any
    pooling: Pooling
    max_length: int
    micro_tokens: int = 4096

    @property
    def width(self) -> int:
        """H, the length of a vector."""
        model: Any = self.role.model
        return int(model.config.get_text_config().hidden_size)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[N, H], in the order of the texts; of unit length where the pooling normalizes.

        Errors: DataError for what is no list of texts; one text alone would give a vector for each of its letters.
        """
        if isinstance(texts, str):
            raise DataError("one text was given alone", expected="a list of texts", remedy="embed([text])")
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"text {index} is of type {type(text).__name__}", expected="text")
        found = np.zeros((len(texts), self.width), dtype=np.float32)
        with still(self.role.model):
            for low in range(0, len(texts), _TOGETHER):
                self._fill(found[low : low + _TOGETHER], texts[low : low + _TOGETHER])
        return found

    def _fill(self, found: NDArray[np.float32], texts: Sequence[str]) -> None:
        tokens = self._tokens(texts)
        lengths = [len(ids) for ids in tokens]
        filled = [index for index, length in enumerate(lengths) if length]
        # The longest first, so that memory runs out at once or never.
        order = sorted(filled, key=lambda index: (-lengths[index], index))
        device = next(self.role.model.parameters()).device
        for chosen in micro_batches(order, lengths, self.micro_tokens):
            rows = [Row(str(index), tokens[index], np.zeros(lengths[index], dtype=np.bool_)) for index in chosen]
            batch = pack(rows).to(device)
            found[chosen] = pool(self.role.hidden(batch), batch.starts, self.pooling).cpu().numpy()

    def _tokens(self, texts: Sequence[str]) -> list[NDArray[np.int64]]:
        encoded = self.tokenizer(
            [text.lower() for text in texts] if self.pooling.lower else list(texts),
            truncation=True,
            max_length=self.max_length,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        return [np.array(ids, dtype=np.int64) for ids in encoded]


def load_embedder(
    source: str,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    micro_tokens: int = 4096,
) -> Embedder:
    """The model that `source` names, without a head, ready to embed. `source` is what `model:` in a recipe may name.

    engine.device.choose tells the dtype that pays on a machine; benchmarks.embed prints how near the vectors of a
    bfloat16 model are to those of a float32 one. Errors: ModelError for a model that cannot be loaded, or whose pooling
    is not known here.
    """
    loaded = load_model(source, "features", dtype=dtype, device=device)
    pooling = loaded.pooling
    assert pooling is not None
    role = role_of(fuse_biases(loaded.model), loaded.tokenizer.pad_token_id, pooling)
    config = loaded.model.config.get_text_config()
    limits = [pooling.max_length, loaded.tokenizer.model_max_length]
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None:
        limits.append(positions - (role.offset or 0))
    return Embedder(
        role, loaded.tokenizer, pooling, min(int(limit) for limit in limits if limit is not None), micro_tokens
    )
