"""How many tokens a row of a phase may have."""

from __future__ import annotations

from ..core.errors import RecipeError
from ..core.recipe import Phase
from ..models.load import Loaded
from ..models.positions import text_positions

__all__ = ["longest_row"]

_LONGEST = 2048
"""Where neither the phase nor the model says less."""


def longest_row(phase: Phase, loaded: Loaded) -> int:
    """The phase's limit, or the model's own up to 2,048 tokens, but for the positions that its adaptation takes: the
    same for the base and for what comes of it. Errors: RecipeError for a limit that the model cannot take, and for an
    adaptation that leaves no room.
    """
    config, taken = loaded.model.config, phase.adaptation.positions
    positions = text_positions(loaded.model)
    # T5 counts from each token on: its n_positions is the length that it was trained at, and no limit.
    own = getattr(config, "n_positions", None) if positions is None else positions - taken
    behind = f" behind the {taken} of its {phase.adaptation.component_name()}" if taken else ""
    if own is not None and own < 2:
        raise RecipeError(
            f"the model takes {positions} tokens, which leaves none{behind}",
            where=f"phase '{phase.name}'",
            expected="a shorter one",
        )
    if phase.max_length is not None:
        if own is not None and phase.max_length > own and not hasattr(config, "relative_attention_num_buckets"):
            raise RecipeError(
                f"max_length is {phase.max_length}, and the model takes {own} tokens{behind}",
                where=f"phase '{phase.name}'",
                expected=f"at most {own}",
            )
        return phase.max_length
    made_for = loaded.pooling.max_length if loaded.pooling is not None else None
    return min(own or _LONGEST, made_for or _LONGEST, _LONGEST)
