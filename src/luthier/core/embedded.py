"""What ships inside the package: data files and the small language model, found by name. No torch here."""

from __future__ import annotations

from pathlib import Path

from .errors import DataError, ModelError, nearest

__all__ = ["PREFIX", "data_names", "embedded_data", "embedded_nano", "embedded_recipes"]

PREFIX = "embedded:"
"""How a recipe names what ships with the package: embedded:nano, embedded:repair-shop."""

_PACKAGE = Path(__file__).resolve().parent.parent
_ROOT = _PACKAGE / "embedded"


def data_names() -> tuple[str, ...]:
    """The names of the data sets that ship with the package, sorted."""
    folder = _ROOT / "data"
    if not folder.is_dir():
        return ()
    return tuple(sorted(file.name.partition(".")[0] for file in folder.iterdir() if _is_data(file)))


def embedded_data(name: str) -> Path:
    """The file of an embedded data set; `name` with or without the prefix "embedded:".

    Errors: DataError with the nearest name.
    """
    bare = name.removeprefix(PREFIX)
    folder = _ROOT / "data"
    if folder.is_dir():
        for file in sorted(folder.iterdir()):
            if _is_data(file) and bare in (file.name, file.name.partition(".")[0]):
                return file
    near = nearest(bare, data_names())
    raise DataError(
        f"no data set called '{bare}' ships with luthier",
        where=name,
        expected="one of " + (", ".join(PREFIX + known for known in data_names()) or "(none in this installation)"),
        remedy=f"did you mean '{PREFIX}{near}'?" if near else "give the path of a file",
    )


def embedded_nano() -> Path:
    """The folder of the language model that ships with the package.

    Errors: ModelError where its weights are not part of this installation.
    """
    folder = _ROOT / "nano"
    if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        raise ModelError(
            "the weights of embedded:nano are not part of this installation",
            where=str(folder),
            expected="config.json and model.safetensors",
            remedy="install luthier from a release or a full clone, or name another model",
        )
    return folder


def embedded_recipes() -> tuple[str, ...]:
    """The names of the recipes that ship with the package, sorted."""
    return tuple(sorted(file.stem for file in (_PACKAGE / "recipes").glob("*.yaml")))


def _is_data(file: Path) -> bool:
    return file.is_file() and not file.name.startswith((".", "_")) and file.suffix not in (".py", ".md")
