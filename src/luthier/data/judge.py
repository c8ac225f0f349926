"""Rewards of answers by a reward model that an earlier run (or somebody else) trained.

Errors: ModelError for a model that cannot be loaded or has more classes than one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..core.contracts import Floats
from ..core.errors import DataError, ModelError
from ..core.example import Example
from .encode import Encoding

__all__ = ["open_judge", "rewards_of"]

_LONGEST = 2048
_TOKENS = 4096  # in one forward pass


def rewards_of(source: str, examples: Sequence[Example]) -> Floats:
    """[n] the reward of each row's "completion" as the answer to its "prompt", by the model that `source` names."""
    return open_judge(source)(examples)


def open_judge(source: str, device: str = "cpu") -> Callable[[Sequence[Example]], Floats]:
    """The same for any number of calls: the model is loaded once, onto the device."""
    import torch

    from ..functional.packing import micro_batches, pack
    from ..models.attention import still
    from ..models.load import load_model
    from ..models.roles import role_of

    loaded = load_model(source, "sequence_score", device=device)
    if loaded.fresh:
        raise ModelError(
            f"the model lacks {', '.join(sorted(loaded.fresh))}",
            where=source,
            expected="a reward model with the head that was trained",
            remedy="train one with the objective reward, or copy the folder again with its adapter/",
        )
    if loaded.model.config.num_labels != 1:
        raise ModelError(
            f"the model has {loaded.model.config.num_labels} classes",
            where=source,
            expected="a reward model, whose head gives one number",
            remedy="train one with the objective reward",
        )
    own = getattr(loaded.model.config, "max_position_embeddings", None) or _LONGEST
    encoding = Encoding(loaded.tokenizer, max_length=min(own, _LONGEST))
    role = role_of(loaded.model, loaded.tokenizer.pad_token_id)

    def judge(examples: Sequence[Example]) -> Floats:
        rows = [row for example in examples for row in encoding.answers(example, ("completion",))]
        if len(rows) != len(examples):
            raise DataError(
                f"{len(examples) - len(rows)} of {len(examples)} answers could not be shown to the judge",
                where=source,
                expected="prompts and answers that fit into its length and chat template",
                remedy="let answers be shorter, or take a judge that reads longer texts",
            )
        lengths = [len(row.ids) for row in rows]
        order = sorted(range(len(rows)), key=lambda index: (-lengths[index], index))
        found = np.zeros(len(rows))
        with still(loaded.model), torch.inference_mode():
            for chosen in micro_batches(order, lengths, _TOKENS):
                batch = pack([rows[index] for index in chosen]).to(device)
                found[chosen] = role.class_logits(batch)[:, 0].double().cpu().numpy()
        return found

    return judge
