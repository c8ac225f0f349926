"""What can be told of a model's folder before it is loaded: whether its files are whole and belong together.

Reads the configuration, the headers of the weights and the tokenizer's files; no weight and no torch. What only the
model itself can tell (a shape that does not fit, a number that is not finite) is found when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import ModelError, Problem, first_line
from .files import CONFIG, INDEX, read_json

__all__ = ["folder_problems", "refuse_code", "weight_problems"]

_FLOATS = ("F64", "F32", "F16", "BF16")
_DTYPES = ("float64", "float32", "float16", "bfloat16", "auto")
_VOCABULARIES = ("tokenizer.json", "vocab*", "*.model", "*.tiktoken")
_AGAIN = "copy or download the folder again"


def folder_problems(folder: Path, weights: Sequence[Path]) -> list[Problem]:
    """What is wrong with the folder of a whole model whose weights lie in these files; empty where nothing is."""
    found: list[Problem] = []
    config: Mapping[str, Any] = {}
    try:
        config = read_json(folder / CONFIG)
        found.extend(_config(config, folder / CONFIG))
    except ModelError as error:
        found.extend(error.problems)
    found.extend(weight_problems(folder, weights))
    found.extend(_tokenizer(folder, config.get("vocab_size")))
    if (folder / "generation_config.json").is_file():
        found.extend(_unreadable(folder / "generation_config.json"))
    return found


def refuse_code(config: Mapping[str, Any], file: Path) -> None:
    """Errors: ModelError for a configuration that names code to be run."""
    if "auto_map" in config:
        raise ModelError(
            "the model brings code of its own, and that is never run",
            where=str(file),
            expected="a model that transformers knows, without auto_map",
            remedy="use a version of the model in transformers' own format",
        )


def _config(config: Mapping[str, Any], file: Path) -> Iterator[Problem]:
    place = str(file)
    try:
        refuse_code(config, file)
    except ModelError as error:
        yield from error.problems
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        yield Problem("the configuration names no model_type", place, 'such as "llama"', _AGAIN)
    if config.get("quantization_config"):
        yield Problem(
            "the weights are quantized, and quantized weights are not trained here",
            place,
            "weights in float32, float16 or bfloat16",
            "give the model that they were made from",
        )
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "auto").removeprefix("torch.")
    if dtype not in _DTYPES:
        yield Problem(f"dtype is '{dtype}'", place, "one of " + ", ".join(_DTYPES[:-1]), "correct it, or leave it out")


def weight_problems(folder: Path, files: Sequence[Path]) -> Iterator[Problem]:
    """Files that are torn or no safetensors, weights that are no floating-point numbers, an index of other weights."""
    names: set[str] = set()
    for file in files:
        try:
            kinds = _header(file)
        except ModelError as error:
            yield from error.problems
            return
        names |= kinds.keys()
        other = [name for name, kind in kinds.items() if name.endswith((".weight", ".bias")) and kind not in _FLOATS]
        if other:
            yield Problem(
                f"{len(other)} weights are stored as {kinds[other[0]]}, such as {other[0]}",
                str(file),
                "weights in float32, float16 or bfloat16",
                "give the model before it was quantized",
            )
    index = folder / INDEX
    if index.is_file() and files and files[0].name != "model.safetensors":
        stored = read_json(index)
        lost = sorted(stored["weight_map"].keys() - names)
        if lost:
            yield Problem(
                f"{len(lost)} weights that the index names are in none of its files, such as {lost[0]}",
                str(index),
                "the index of these files",
                _AGAIN,
            )
        if not isinstance(stored.get("metadata"), dict):
            yield Problem("the index has no metadata", str(index), "the index as save_pretrained writes it", _AGAIN)


def _header(file: Path) -> dict[str, str]:
    """The stored type of every tensor of a safetensors file. Errors: ModelError where the file is not whole."""
    from safetensors import safe_open

    try:
        with file.open("rb") as opened:
            pointer = opened.read(24).startswith(b"version https://git-lfs")
        if not pointer:
            with safe_open(file, framework="np") as tensors:
                return {name: tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118
    except Exception as error:  # OSError, or the library's own error
        raise ModelError(
            f"the file is torn, or no safetensors file: {first_line(error)}",
            where=str(file),
            expected="a whole safetensors file",
            remedy=_AGAIN,
        ) from error
    raise ModelError(
        "the file is a pointer of Git LFS, not the weights",
        where=str(file),
        expected="a whole safetensors file",
        remedy="fetch the weights: git lfs pull in the clone, or hf download",
    )


def _tokenizer(folder: Path, rows: Any) -> Iterator[Problem]:
    """Files of the tokenizer that cannot be read, and ids beyond the embedding's rows."""
    if not any(file for pattern in _VOCABULARIES for file in folder.glob(pattern)):
        yield Problem(
            "the folder holds no tokenizer",
            str(folder),
            "tokenizer.json and tokenizer_config.json",
            "copy the tokenizer's files from the model that this one was made from",
        )
    if (folder / "tokenizer_config.json").is_file():
        yield from _unreadable(folder / "tokenizer_config.json")
    file = folder / "tokenizer.json"
    if not file.is_file():
        return
    try:
        largest = _largest_id(read_json(file))
    except ModelError as error:
        yield from error.problems
        return
    except (KeyError, TypeError, ValueError, AttributeError):  # another layout than any that the library writes
        yield Problem("the file holds no tokenizer", str(file), "tokenizer.json as save_pretrained writes it", _AGAIN)
        return
    if isinstance(rows, int) and largest >= rows:
        yield Problem(
            f"the tokenizer has ids up to {largest}, and the embedding has {rows} rows",
            str(file),
            "a row for every token",
            "use the tokenizer that belongs to this model, without tokens added later",
        )


def _largest_id(stored: Mapping[str, Any]) -> int:
    """The largest id that ordinary text can lead to."""
    vocabulary = stored["model"]["vocab"]  # a list in Unigram, else pieces by text
    pieces = range(len(vocabulary)) if isinstance(vocabulary, list) else vocabulary.values()
    # A special token without a row may be one that nothing leads to: the loaded tokenizer tells.
    added = [token["id"] for token in stored.get("added_tokens") or () if not token.get("special")]
    return max(int(number) for number in (*pieces, *added))


def _unreadable(file: Path) -> Sequence[Problem]:
    try:
        read_json(file)
    except ModelError as error:
        return error.problems
    return ()
