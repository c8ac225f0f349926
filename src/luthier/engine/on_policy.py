"""What an on-policy phase needs around its fit: its rewards opened, its reference, its rollouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path

import torch

from ..core.contracts import Models, Objective, Row
from ..core.example import Example
from ..core.files import sha256_of
from ..core.on_policy import OnPolicy
from ..core.recipe import Phase
from ..core.rewards import NOWHERE
from ..core.run import EventLog, digest_of
from ..data.encode import Encoding
from ..models.load import Loaded
from ..models.roles import role_of
from ..models.source import source_digest
from .own_answers import OwnAnswers
from .rollout import Rollouts, frozen_copy, judging

__all__ = ["examine_rewards", "lengths_of", "rolling"]


def lengths_of(objective: Objective, rows: Sequence[Row]) -> list[int]:
    """Tokens that rows may come to have in a step: of prompts, all their answers at their longest."""
    share, most = objective.writes
    room = most if share else 0
    if isinstance(objective, OnPolicy):
        room = objective.answers * (objective.max_new_tokens + 1)
    return [len(row.ids) + room for row in rows]


def examine_rewards(objective: Objective, phases: Sequence[str]) -> None:
    """Errors: LuthierError where rewards cannot be found; models that are `phases` are not there yet."""
    for reward in objective.rewards if isinstance(objective, OnPolicy) else ():
        if set(phases).isdisjoint(reward.judges()):
            reward.examine()


@contextmanager
def rolling(
    phase: Phase,
    loaded: Loaded,
    models: Models,
    encoding: Encoding,
    splits: Mapping[str, Sequence[Example]],
    *,
    seed: int,
    device: torch.device,
    places: Mapping[str, str] = NOWHERE,
    log: Callable[..., None] = lambda event, **values: None,
    shown: Path | None = None,
) -> Iterator[Rollouts | OwnAnswers | None]:
    """The rollouts of a phase whose model is not trained yet, or the answers that it writes in place of rows' own; None
    where its objective samples nothing.

    places: the folders of reward models that are earlier phases, by phase. shown: where some answers are written.
    Errors: LuthierError where a reward cannot be opened.
    """
    objective = phase.objective
    if objective.writes[0]:
        pad, limit = loaded.tokenizer.pad_token_id, encoding.max_length
        yield OwnAnswers(objective, models, stop=encoding.stop, pad=pad, longest=limit, seed=seed, device=device)
        return
    if not isinstance(objective, OnPolicy):
        yield None
        return
    reference = None
    if objective.refers:
        moving = [parameter for group in phase.adaptation.groups(loaded.model) for _, parameter in group.parameters]
        reference = role_of(frozen_copy(loaded.model, moving), loaded.tokenizer.pad_token_id, loaded.pooling)
    with judging(objective, places, str(device)) as judge, closing(EventLog(shown)) as show:
        yield Rollouts(
            objective,
            models.policy,
            reference,
            models.own,
            examples={example.id: example for example in chain(*splits.values())},
            encoding=encoding,
            judge=judge,
            seed=seed,
            device=device,
            pad=loaded.tokenizer.pad_token_id,
            log=log,
            phase=phase.name,
            show=show,
            rewarded=_rewarded(objective, splits, places),
        )


def _rewarded(objective: OnPolicy, splits: Mapping[str, Sequence[Example]], places: Mapping[str, str]) -> str:
    """What the rewards go by: whom they ask, the files that they read, and what the rows say beside their prompts."""
    judges = [source_digest(places.get(source, source)) for source in objective.judges()]
    files = [Path(path) for reward in objective.rewards for path in reward.outside()]
    read = [sha256_of(file) for file in files if file.is_file()]
    asked = chain(splits.get("train", ()), splits.get("validation", ()))
    rows = [digest_of([row.id, row.plain_parts(), row.target]) for row in asked]
    return digest_of([judges, read, rows])
