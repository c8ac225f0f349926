"""Luthier fine-tunes language models from raw data to a model its makers can stand behind.

    import luthier
    done = luthier.run("demo")                     # a recipe: file, shipped name, mapping or Recipe
    fitted = luthier.fit("embedded:nano", train="rows.jsonl")
    rows = luthier.prepare("rows.jsonl", steps=["clean", {"deduplicate": {"threshold": 0.9}}])

Importing this package imports neither torch nor transformers; they come with the first call that needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .core.recipe import Data, Decoding, Machine, PerStep, Phase, Recipe, Source, Watch
    from .pipeline.data import prepare
    from .pipeline.end_to_end import fit, run

__all__ = [
    "Data",
    "Decoding",
    "Machine",
    "PerStep",
    "Phase",
    "Recipe",
    "Source",
    "Watch",
    "__version__",
    "fit",
    "prepare",
    "run",
]

__version__ = "0.1.0"

_HOMES = dict.fromkeys(__all__, "luthier.core.recipe") | {
    "fit": "luthier.pipeline.end_to_end",
    "prepare": "luthier.pipeline.data",
    "run": "luthier.pipeline.end_to_end",
}


def __getattr__(name: str) -> Any:
    if name in __all__ and name != "__version__":
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'luthier' has no attribute '{name}'")
