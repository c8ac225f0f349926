"""`luthier merge`: several adapters of one base added up, each with a weight, and written as a plain model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.errors import LuthierError, ModelError, Problem

__all__ = ["merge_adapters"]


def merge_adapters(given: Sequence[str], out: Path, base: str | None) -> Sequence[tuple[str, float]]:
    """Writes the sum in `out`, in the dtype that the base is stored in; gives the adapters' folders and weights.

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
    import json

    import torch

    from ..models.export import save_model
    from ..models.several import open_adapters

    folders = {str(number): folder for number, (folder, _) in enumerate(parts)}
    adapters = open_adapters(folders, base)
    weights = {str(number): weight for number, (_, weight) in enumerate(parts)}
    merged = adapters.merge(weights)
    config = json.loads((merged.folder / "config.json").read_text(encoding="utf-8"))
    dtype = getattr(torch, config.get("dtype") or config.get("torch_dtype") or "float32")
    save_model(merged.model, merged.tokenizer, out, dtype=dtype)
    return [(str(folder), weight) for folder, weight in parts]


def _part(text: str) -> tuple[Path, float]:
    """The folder and the weight of `FOLDER` or `FOLDER=WEIGHT`."""
    name, sign, number = text.rpartition("=")
    if not sign:
        return _result(Path(text)), 1.0
    try:
        return _result(Path(name)), float(number)
    except ValueError:
        problem = Problem(f"'{number}' is no weight", text, "FOLDER or FOLDER=NUMBER", "such as runs/a=0.5")
        raise LuthierError(problem) from None


def _result(folder: Path) -> Path:
    """The adapter's folder, of a run that of its last phase."""
    if not (folder / "recipe.yaml").is_file():
        return folder
    from ..core.recipe_file import load_recipe
    from ..core.run import RunFolder

    phases = load_recipe(folder).phases
    result = RunFolder(folder).phase(len(phases), phases[-1].name) / "result"
    if not (result / "adapter_config.json").is_file():
        raise ModelError(
            "the run's last phase has left no adapter",
            where=str(folder),
            expected="a finished run whose last phase has the adaptation lora",
            remedy=f"finish it with: luthier run {folder}",
        )
    return result
