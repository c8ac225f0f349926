"""The models that stand in an objective's other roles: opened beside the policy, asked, and let go when they are no
longer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..core.contracts import Objective, Role, Row
from ..core.errors import ModelError
from ..data.encode import Encoding
from ..models.configuration import CLASSIFIERS
from ..models.load import Loaded, load_model, tokenizer_of
from ..models.prompt import text_room
from ..models.roles import role_of

__all__ = ["encoders_of", "open_sources"]

_LONGEST = 2048
"""Tokens of a row for a model that names no limit of its own."""


def encoders_of(objective: Objective) -> dict[str, Encoding]:
    """What models with tokenizers of their own encode with, by role, each up to its own length; none where the
    objective has all see the same tokens.
    """
    if not objective.other_tokenizers:
        return {}
    known = {role: tokenizer_of(source) for role, source in objective.sources().items()}
    return {role: Encoding(own, max_length=min(limit or _LONGEST, _LONGEST)) for role, (own, limit) in known.items()}


def open_sources(
    objective: Objective,
    sources: Mapping[str, str],
    student: Loaded,
    facts: Mapping[str, Any],
    rows: Sequence[Row],
    dtype: torch.dtype,
    device: torch.device,
) -> dict[str, Role]:
    """The models of `sources` by role, in eval mode.

    sources: where each of the objective's comes from, by role. facts: what was surveyed (classes). rows: all that they
    are asked about.
    Errors: ModelError for one that cannot answer: other classes, fewer positions than the longest row has tokens, or
    another tokenizer or vocabulary where all must see the same tokens.
    """
    task = objective.task
    longest = max((len(row.ids) for row in rows), default=0)
    found: dict[str, Role] = {}
    for name, source in sources.items():
        labels = facts.get("classes") if task in CLASSIFIERS else None
        several = facts.get("multi_label", False)
        loaded = load_model(
            source,
            task,
            labels=labels,
            problem=("multi_label_classification" if several else "single_label_classification") if labels else None,
            dtype=dtype,
            device=device,
        )
        if not objective.other_tokenizers:
            _refuse_other(name, source, loaded, student, longest)
        found[name] = role_of(loaded.model.requires_grad_(False), loaded.tokenizer.pad_token_id, loaded.pooling)
    return found


def _refuse_other(name: str, source: str, loaded: Loaded, student: Loaded, longest: int) -> None:
    if loaded.fresh:
        raise ModelError(
            f"the {name} was not trained on these classes",
            where=source,
            expected="a classifier with exactly the classes of the training data",
            remedy=f"train it on the same rows first, and give its run as {name}",
        )
    if loaded.tokenizer.get_vocab() != student.tokenizer.get_vocab():
        raise ModelError(
            f"the {name} has another tokenizer than the model that is trained",
            where=source,
            expected="the same pieces with the same ids: both are asked about the same tokens",
            remedy=f"choose a {name} of the same family, take the objective distill_across, or have it write answers "
            "(step teacher_answers) and train on those",
        )
    width, wanted = (_vocabulary(one) for one in (loaded, student))
    if width != wanted:
        raise ModelError(
            f"the {name} says how probable {width} tokens are, and the model that is trained {wanted}",
            where=source,
            expected="output layers over the same vocabulary, filled up to the same size",
            remedy="take the objective distill_across, or have the teacher write answers (step teacher_answers)",
        )
    positions = text_room(loaded.model)
    if positions is not None and longest > positions:
        raise ModelError(
            f"the {name} takes {positions} tokens, and the longest row has {longest}",
            where=source,
            expected=f"at most {positions} tokens a row",
            remedy=f"set max_length to {positions}",
        )


def _vocabulary(loaded: Loaded) -> int | None:
    head = loaded.model.get_output_embeddings()
    return None if head is None else int(head.weight.shape[0])
