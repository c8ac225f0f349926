"""Two views of a text: what a model says of the first is found beside the second."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.contracts import Batch, Role
from ..functional.branches import only_branch
from .attention import still

__all__ = ["second_views"]


def second_views(role: Role, batches: Sequence[Batch]) -> list[Batch]:
    """The last branch of each row as a plain sequence, with the field `said` [S, C]: the logits that `role` has for the
    first one, float32, in eval mode and without gradient. Where a row has one branch it is both.
    """
    with still(role.model):
        said = [role.class_logits(only_branch(batch, 0)).float() for batch in batches]
    return [only_branch(batch, -1).with_fields(said=of) for batch, of in zip(batches, said, strict=True)]
