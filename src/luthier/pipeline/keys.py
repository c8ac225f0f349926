"""What each stage depends on, as one digest: a stage is kept as long as its digest stays the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import __version__
from ..core.component import describe
from ..core.embedded import PREFIX
from ..core.on_policy import OnPolicy, judges_of
from ..core.recipe import Recipe
from ..core.run import digest_of
from ..data.inputs import Inputs
from ..engine.base import base_phase
from ..engine.phase import Setting
from ..models.source import source_digest

__all__ = ["Key", "base_key", "check_key", "export_key", "prepare_key", "train_key"]


@dataclass(frozen=True)
class Key:
    """A stage's digest, the outside files that went into it by digest, and which of them are known only from before."""

    digest: str
    files: Mapping[str, str]
    gone: tuple[str, ...] = ()


def prepare_key(setting: Setting) -> Key:
    """What preparation depends on: the recipe's data, the files' contents, the seed."""
    recipe, inputs = setting.recipe, _inputs(setting, "prepare")
    given = [recipe.data, *(phase.data for phase in recipe.phases if phase.data is not None)]
    return _key(
        {
            "data": [data.model_dump(mode="json") for data in given],
            "files": [inputs.of_data(data) for data in given],
            "seed": setting.seed,
            "luthier": __version__,
        },
        inputs,
    )


def train_key(setting: Setting, number: int) -> Key:
    """What phase `number` (from 0) depends on: data, the models it starts from, new tokens, all phases up to it."""
    recipe = setting.recipe
    inputs = _inputs(setting, f"train {recipe.phases[number].name}")
    return _key(
        {
            # Of the rows that were prepared, not of files that may have changed since.
            "data": setting.folder.done("prepare")["key"],
            "model": source_digest(recipe.model),
            "from": [source_digest(source) for source in _other_starts(recipe, number)],
            **_sources(recipe, number),
            **_reward_files(recipe, number, inputs),
            "phases": [phase.model_dump(mode="json", by_alias=True) for phase in recipe.phases[: number + 1]],
            "template": _with_contents(recipe.chat_template, inputs),
            # Only where there are any: a recipe that does not use an option keeps its finished stages.
            **({"new_tokens": recipe.new_tokens} if recipe.new_tokens else {}),
            "seed": setting.seed,
            "dtype": str(setting.compute.dtype),
            "device": setting.compute.device.type,
        },
        inputs,
    )


def base_key(setting: Setting) -> Key:
    """What the scores of base depend on; it is measured on rows as the last phase encodes them."""
    last, inputs = setting.recipe.phases[-1], _inputs(setting, "base")
    encoding = {"objective": describe(last.objective), "max_length": last.max_length, "overlong": last.overlong}
    plain = setting.recipe.plain()
    checking = {"checks": _checks(plain.get("checks"), inputs), "decoding": plain.get("decoding")}
    return _key(
        {"phase": train_key(setting, base_phase(setting.recipe)).digest, "encoding": encoding, **checking}, inputs
    )


def export_key(setting: Setting) -> Key:
    """What the exported model depends on."""
    last = len(setting.recipe.phases) - 1
    trained = train_key(setting, last).digest
    return Key(digest_of({"trained": trained, "export": setting.recipe.export.model_dump()}), {})


def check_key(setting: Setting) -> Key:
    """What the measured scores of the result depend on."""
    base = base_key(setting)
    return Key(digest_of({"exported": export_key(setting).digest, "base": base.digest}), base.files, base.gone)


def _inputs(setting: Setting, stage: str) -> Inputs:
    return Inputs(setting.folder.done(stage).get("files", {}))


def _key(depends: Mapping[str, Any], inputs: Inputs) -> Key:
    return Key(digest_of(depends), inputs.digests, tuple(inputs.gone))


def _other_starts(recipe: Recipe, number: int) -> list[str]:
    """Runs and models outside of the recipe that its phases up to `number` start from."""
    names = [phase.name for phase in recipe.phases]
    starts = [phase.from_ for phase in recipe.phases[: number + 1]]
    return [start for start in starts if start is not None and start not in names]


def _checks(checks: Any, inputs: Inputs) -> Any:
    """The checks, with the digests of the files that their parameters name; one by its name alone has none, whatever
    lies beside it (a run's folder may be called as a check is).
    """
    return checks and [check if isinstance(check, str) else _with_contents(check, inputs) for check in checks]


def _sources(recipe: Recipe, number: int) -> dict[str, list[str]]:
    """The digests of teachers, reward models and encoders, where phases up to `number` have any from outside."""
    own = [phase.name for phase in recipe.phases]
    encoders = [source for phase in recipe.phases[: number + 1] for source in phase.adaptation.sources()]
    objectives = [phase.objective for phase in recipe.phases[: number + 1]]
    teachers = [source for objective in objectives for source in objective.sources().values()]
    judges = [source for objective in objectives for source in judges_of(objective)]
    named = [source for source in teachers + judges + encoders if source not in own]
    return {"sources": [source_digest(source) for source in named]} if named else {}


def _reward_files(recipe: Recipe, number: int, inputs: Inputs) -> dict[str, Any]:
    """The digests of files that rewards of phases up to `number` go by, where there are any."""
    objectives = [phase.objective for phase in recipe.phases[: number + 1]]
    rewards = [reward for one in objectives if isinstance(one, OnPolicy) for reward in one.rewards]
    found = [inputs.of(path) for reward in rewards for path in reward.outside()]
    return {"rewards": found} if any(found) else {}


def _with_contents(value: Any, inputs: Inputs) -> Any:
    """The value with each text that names a file or folder (forgetting's data, a template) followed by its digests."""
    if isinstance(value, Mapping):
        return {key: _with_contents(item, inputs) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_contents(item, inputs) for item in value]
    if isinstance(value, str) and 0 < len(value) < 1024 and "\n" not in value:
        found = [] if value.startswith(PREFIX) else [list(item) for item in inputs.of(value).items()]
        return [value, found] if found else value
    return value
