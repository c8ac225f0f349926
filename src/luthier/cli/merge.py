"""`luthier merge`: several adapters of one base added up, each with a weight, and written as a plain model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..core.errors import LuthierError, ModelError, Problem

__all__ = ["merge_adapters"]


def merge_adapters(given: Sequence[str], out: Path, base: str | None) -> Sequence[tuple[str, float]]:
    """Writes the sum in `out`, in the dtype that the base is stored in and with the chat template that the adapters
    learned in; gives the adapters' folders and weights.

    given: folders of adapters, or of runs, whose last phase's result is meant; FOLDER=0.5 gives a weight, else 1.
    Errors: LuthierError for weights that are no numbers, a folder that is there already, and adapters that do not fit.
    """
    parts = [_part(text) for text in given]
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise LuthierError(
            "the folder is there already",
            where=str(out),
            expected="a new or empty one for the model",
            remedy="name another with --out, or remove it",
        )
    template = _template(folder for folder, _ in parts)
    import json

    import torch

    from ..data.template import template_for
    from ..models.export import save_model
    from ..models.several import open_adapters

    folders = {str(number): folder for number, (folder, _) in enumerate(parts)}
    adapters = open_adapters(folders, base)
    weights = {str(number): weight for number, (_, weight) in enumerate(parts)}
    merged = adapters.merge(weights)
    if template is not None:
        template_for(merged.tokenizer, template)
    config = json.loads((merged.folder / "config.json").read_text(encoding="utf-8"))
    dtype = getattr(torch, config.get("dtype") or config.get("torch_dtype") or "float32")
    save_model(merged.model, merged.tokenizer, out, dtype=dtype, pooling=merged.pooling)
    return [(str(folder), weight) for folder, weight in parts]


def _part(text: str) -> tuple[Path, float]:
    """The folder and the weight of `FOLDER` or `FOLDER=WEIGHT`; what is a folder as it stands has no weight."""
    name, sign, number = text.rpartition("=")
    if not sign or Path(text).exists():
        return _result(Path(text)), 1.0
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise LuthierError(Problem(f"'{number}' is no weight", text, "FOLDER or FOLDER=NUMBER", "such as runs/a=0.5"))
    return _result(Path(name)), weight


def _result(folder: Path) -> Path:
    """The adapter's folder, of a run that of its last phase."""
    if not (folder / "recipe.yaml").is_file():
        return folder
    from ..core.recipe_file import load_recipe
    from ..core.run import RunFolder

    phases = load_recipe(folder).phases
    result = RunFolder(folder).phase(len(phases), phases[-1].name) / "result"
    if not (result / "adapter_config.json").is_file():
        there = [file.parent for file in sorted(folder.glob("phases/*/result/adapter_config.json"))]
        there = there or sorted(folder.glob("seeds/seed-*"))
        other = "" if result.is_dir() else f"finish it with: luthier run {folder}"
        raise ModelError(
            "the run's last phase has left no adapter"
            + ("" if other else f": its adaptation is {phases[-1].adaptation.component_name()}"),
            where=str(folder),
            expected="a finished run whose last phase has the adaptation lora",
            remedy=f"name what is meant: {there[0]}" if there else other or "merge runs with that adaptation",
        )
    return result


def _template(adapters: Iterable[Path]) -> str | None:
    """The chat template that the recipes name in whose runs the adapters lie; None: the base's own.

    Errors: ModelError where they name different ones.
    """
    from ..core.recipe_file import load_recipe

    runs = {run for folder in adapters for run in folder.resolve().parents[2:3] if (run / "recipe.yaml").is_file()}
    found = {load_recipe(run).chat_template for run in runs}
    if len(found) > 1:
        named = ", ".join(sorted(name or "the base's own" for name in found))
        raise ModelError(
            f"the adapters learned their answers in different chat templates: {named}",
            expected="adapters of one chat template, in which the sum is then asked",
            remedy="merge those that share one",
        )
    return found.pop() if found else None
