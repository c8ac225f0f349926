"""The files of a model's folder: their names, and its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..core.errors import ModelError

__all__ = ["ADAPTER", "CARRIED", "CARRIED_SPEC", "CONFIG", "INDEX", "carried_files", "read_json", "read_json_list"]

CONFIG, ADAPTER, INDEX = "config.json", "adapter_config.json", "model.safetensors.index.json"
CARRIED, CARRIED_SPEC = "adapter", "luthier.json"
"""The folder of an adaptation that cannot be folded in (models/carried.py), and the file that makes it one."""


def carried_files(folder: Path) -> list[Path]:
    """What lies beside the base in `folder`, where anything is carried: it is as much of the model as its weights."""
    return sorted((folder / CARRIED).iterdir()) if (folder / CARRIED / CARRIED_SPEC).is_file() else []


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a file of a model's folder. Errors: ModelError where it cannot be read."""
    value = _parsed(file)
    if not isinstance(value, dict):
        raise ModelError(
            "the file holds no JSON object", where=str(file), expected="{...}", remedy="copy the folder again"
        )
    return value


def read_json_list(file: Path) -> list[dict[str, Any]]:
    """A list of JSON objects from a file of a model's folder. Errors: ModelError where it cannot be read."""
    value = _parsed(file)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ModelError(
            "the file holds no list of JSON objects",
            where=str(file),
            expected="[{...}, ...]",
            remedy="copy the folder again",
        )
    return value


def _parsed(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"the file cannot be read: {error}",
            where=str(file),
            expected="JSON, in UTF-8",
            remedy="copy the folder again",
        ) from error
