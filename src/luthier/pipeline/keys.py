"""What each stage depends on, as one digest: a stage is kept as long as its digest stays the same."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.component import describe
from ..core.files import sha256_of
from ..core.recipe import Recipe
from ..core.run import digest_of
from ..data.inputs import input_digests
from ..engine.phase import Setting
from ..models.load import resolve

__all__ = ["base_key", "check_key", "export_key", "prepare_key", "train_key"]


def prepare_key(setting: Setting) -> str:
    """What preparation depends on: the recipe's data, the files' contents, the seed."""
    recipe = setting.recipe
    given = [recipe.data, *(phase.data for phase in recipe.phases if phase.data is not None)]
    return digest_of(
        {
            "data": [data.model_dump(mode="json") for data in given],
            "files": [input_digests(data) for data in given],
            "seed": setting.seed,
            "luthier": __version__,
        }
    )


def train_key(setting: Setting, number: int) -> str:
    """What phase `number` (from 0) depends on: data, the models it starts from, new tokens, all phases up to it."""
    recipe = setting.recipe
    return digest_of(
        {
            "data": prepare_key(setting),
            "model": _source_digest(recipe.model),
            "from": [_source_digest(source) for source in _other_starts(recipe, number)],
            "phases": [phase.model_dump(mode="json", by_alias=True) for phase in recipe.phases[: number + 1]],
            "template": _with_contents(recipe.chat_template),
            # Only where there are any: a recipe that does not use an option keeps its finished stages.
            **({"new_tokens": recipe.new_tokens} if recipe.new_tokens else {}),
            "seed": setting.seed,
            "dtype": str(setting.compute.dtype),
            "device": setting.compute.device.type,
        }
    )


def _other_starts(recipe: Recipe, number: int) -> list[str]:
    """Runs and models outside of the recipe that its phases up to `number` start from."""
    names = [phase.name for phase in recipe.phases]
    starts = [phase.from_ for phase in recipe.phases[: number + 1]]
    return [start for start in starts if start is not None and start not in names]


def base_key(setting: Setting) -> str:
    """What the scores of base depend on; it is measured on rows as the last phase encodes them."""
    last = setting.recipe.phases[-1]
    encoding = {"objective": describe(last.objective), "max_length": last.max_length, "overlong": last.overlong}
    return digest_of({"phase": train_key(setting, 0), "encoding": encoding, **_checking(setting.recipe)})


def export_key(setting: Setting) -> str:
    """What the exported model depends on."""
    last = len(setting.recipe.phases) - 1
    return digest_of({"trained": train_key(setting, last), "export": setting.recipe.export.model_dump()})


def check_key(setting: Setting) -> str:
    """What the measured scores of the result depend on."""
    return digest_of({"exported": export_key(setting), "base": base_key(setting)})


def _checking(recipe: Recipe) -> dict[str, Any]:
    plain = recipe.plain()
    return {"checks": _with_contents(plain.get("checks")), "decoding": plain.get("decoding")}


def _with_contents(value: Any) -> Any:
    """The value with each text that names a file or folder (forgetting's data, a template) followed by its digests."""
    if isinstance(value, Mapping):
        return {key: _with_contents(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_contents(item) for item in value]
    if isinstance(value, str) and 0 < len(value) < 1024 and "\n" not in value and Path(value).exists():
        path = Path(value)
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        return [value, [[str(file), sha256_of(file)] for file in files]]
    return value


def _source_digest(source: str) -> str:
    """What a model source's weights, config and tokenizer are; a hub id stands for itself."""
    folder = resolve(source).folder
    if folder is None:
        return source
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".jinja", ".model"))
    states = [(path, path.stat()) for path in files]
    return digest_of({path.name: _digest(path, state.st_mtime_ns, state.st_size) for path, state in states})


@cache
def _digest(path: Path, changed: int, size: int) -> str:
    """The file's digest, computed once as long as it stays as it is: a run asks for it at every stage."""
    return sha256_of(path)
