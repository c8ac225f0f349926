"""What is read back from the run folder: the prepared rows, and the models under measurement by their names."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..core.contracts import WRITERS
from ..data.prepare import load_splits
from ..engine import phase as phases
from ..engine.base import base_head, base_phase, fit_head
from ..engine.phase import Setting
from ..evaluate.subject import ModelSubject
from ..models.export import reload
from ..models.roles import role_of

if TYPE_CHECKING:
    from ..models.load import Loaded

__all__ = ["splits_of", "subject"]


def splits_of(setting: Setting, number: int | None) -> phases.Splits:
    """The prepared splits that a phase (or, with None, the checks) works on."""
    own = number is not None and setting.recipe.phases[number].data is not None
    folder = setting.phase_folder(number) / "data" if own and number is not None else setting.folder.data
    return load_splits(folder)


def subject(setting: Setting, name: str, dtype: torch.dtype) -> ModelSubject:
    """The subject called `name` in `dtype`, encoded as the last phase encodes."""
    last = len(setting.recipe.phases) - 1
    loaded = _open(setting, name, dtype)
    return _subject_of(setting, name, last, loaded)


def _subject_of(setting: Setting, name: str, number: int, loaded: Loaded) -> ModelSubject:
    """A loaded model as a subject of phase `number`'s task."""
    return ModelSubject(
        name,
        role_of(loaded.model, loaded.tokenizer.pad_token_id, loaded.pooling),
        phases.encoding_of(setting, number, loaded),
        setting.recipe.phases[number].objective,
        setting.recipe.decoding,
        setting.seed,
        setting.recipe.machine.micro_tokens or 4096,
        base_head(setting.recipe) if name == "base" and loaded.fresh else None,
    )


def _open(setting: Setting, name: str, dtype: torch.dtype) -> Loaded:
    recipe = setting.recipe
    last = len(recipe.phases) - 1
    if name == "base":
        return _base(setting)
    if name == "reloaded":
        return reload(setting.folder.model, recipe.phases[last].objective.task, dtype, setting.compute.device)
    loaded = phases.adapted(setting, last, dtype=dtype, trained=True)
    if name == "merged":
        return replace(loaded, model=recipe.phases[last].adaptation.merge(loaded.model))
    return loaded


def _base(setting: Setting) -> Loaded:
    number = base_phase(setting.recipe)
    if setting.recipe.phases[number].objective.task not in WRITERS:  # opened as it is where its head is there already
        return fit_head(setting, splits_of(setting, number), number)
    return phases.open_model(setting, 0)
