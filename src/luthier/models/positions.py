"""How long a text a model takes, found by structure."""

from __future__ import annotations

from torch import nn

from .attention import transformer_of

__all__ = ["text_positions"]


def text_positions(model: nn.Module) -> int | None:
    """Tokens that a text may have; None where the model has no last position.

    RoBERTa and its kin count from behind the padding token's number on, so that the first of their positions are no
    text's.
    """
    inner = transformer_of(model)
    limit = getattr(inner.config.get_text_config(), "max_position_embeddings", None)
    if limit is None:
        return None
    tables = [module for name, module in inner.named_modules() if name.endswith("position_embeddings")]
    skipped = [table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None]
    return int(limit) - max(skipped, default=0)
