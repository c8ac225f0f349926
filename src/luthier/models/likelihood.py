"""How likely a causal language model holds texts to be: its mean loss a token, packed without padding.

    likelihood = load_likelihood("embedded:nano")
    losses = likelihood.losses(["The king slept.", "The queen slept."])     # nats a token, float64

A text longer than the model takes is measured on its beginning; one without two tokens has no loss (NaN).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.contracts import Row
from ..functional.packing import micro_batches, pack
from .attention import still
from .load import load_model
from .roles import Role, role_of

__all__ = ["Likelihood", "load_likelihood"]


@dataclass(frozen=True)
class Likelihood:
    """A causal model that scores texts. max_length: tokens of a text; micro_tokens: tokens in one forward pass."""

    role: Role
    tokenizer: Any
    max_length: int
    micro_tokens: int = 4096

    def losses(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """[N] mean negative log-probability of a token after the first, in nats; NaN where there is none."""
        found = np.full(len(texts), np.nan)
        tokens = [self._tokens(text) for text in texts]
        lengths = [len(ids) for ids in tokens]
        order = sorted((at for at, length in enumerate(lengths) if length > 1), key=lambda at: (-lengths[at], at))
        device = next(self.role.model.parameters()).device
        with still(self.role.model), torch.no_grad():
            for chosen in micro_batches(order, lengths, self.micro_tokens):
                rows = [Row(str(at), tokens[at], np.arange(lengths[at]) > 0) for at in chosen]
                logps = self.role.logps(pack(rows).to(device), alike=True).double().cpu().numpy()
                ends = np.cumsum([lengths[at] - 1 for at in chosen])
                for at, part in zip(chosen, np.split(logps, ends[:-1]), strict=True):
                    found[at] = -part.mean()
        return found

    def _tokens(self, text: str) -> NDArray[np.int64]:
        start = self.tokenizer.bos_token_id
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
        return np.array(([] if start is None else [start]) + ids, dtype=np.int64)[: self.max_length]


def load_likelihood(source: str) -> Likelihood:
    """The causal model that `source` names (what `model:` in a recipe may name). Errors: ModelError as load_model."""
    loaded = load_model(source, "causal_lm")
    positions = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    limits = [loaded.tokenizer.model_max_length, 512, positions]
    longest = min(int(limit) for limit in limits if limit is not None)
    return Likelihood(role_of(loaded.model, loaded.tokenizer.pad_token_id), loaded.tokenizer, longest)
