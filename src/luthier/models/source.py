"""Where a model comes from: what `model:` in a recipe names, and what can be known of it before it is loaded.

    embedded:nano     ships with the package                runs/tales      an earlier run (its model/)
    path/to/folder    Hugging Face format, or an adapter    org/name@v1.0   the hub, the revision may be left out

No torch is imported here, so that a plan can look at a source at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from ..core.embedded import PREFIX
from ..core.errors import LuthierError, ModelError, Problem, first_line, nearest
from ..core.files import sha256_of
from ..core.run import digest_of
from .embedded import embedded_folder
from .files import ADAPTER, CONFIG, INDEX, carried_files, read_json
from .whole import folder_problems, weight_problems

__all__ = [
    "Resolved",
    "adapter_base",
    "check_source",
    "fetch",
    "refuse_circle",
    "resolve",
    "source_digest",
    "weight_files",
]

_HUB = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
_RUN_ONLY = ("*.gguf", "*.ggml", "*.onnx", "*.tflite")
_FETCHED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "README.md", "LICENSE*")
_OF_MODELS = (".json", ".safetensors", ".jinja", ".model", ".txt")  # with vocab.txt and merges.txt


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model's source. folder: None only for the hub, until `fetch` brings it here.

    adapter: the folder holds a PEFT adapter, whose base is named in its own configuration.
    """

    kind: Literal["embedded", "folder", "run", "hub"]
    source: str
    folder: Path | None = None
    hub_id: str | None = None
    revision: str | None = None
    license: str | None = None
    adapter: bool = False


def resolve(source: str) -> Resolved:
    """What `source` names; nothing is downloaded.

    Errors: ModelError for a folder that is absent, holds no model or may not be read; MissingExtra where
    embedded:minilm has no package.
    """
    if source.startswith(PREFIX):
        folder = embedded_folder(source)
        return Resolved("embedded", source, folder, license=_license(folder))
    try:
        return _found(source, Path(source).expanduser())
    except (OSError, RuntimeError) as error:  # a name that is too long, a folder that may not be read, ~nobody
        raise ModelError(
            f"the folder cannot be looked at: {first_line(error)[:120]}",
            where=source[:80],
            expected=f"a folder with {CONFIG}, an id of the hub, or embedded:nano",
            remedy="see whether the name is right, and whether you may read the folder",
        ) from error


def _found(source: str, path: Path) -> Resolved:
    if path.is_dir():
        return _local(source, path)
    if path.is_file():
        raise ModelError(
            "a model is a folder, and this is a file",
            where=source,
            expected=f"a folder with {CONFIG}",
            remedy=f"give {path.parent}"
            if (path.parent / CONFIG).is_file()
            else "give the folder that the model lies in",
        )
    if _is_path(source, path):
        raise _absent(source, path)
    name, _, revision = source.partition("@")
    return Resolved("hub", source, hub_id=name, revision=revision or None)


def fetch(resolved: Resolved) -> Resolved:
    """The same source with its folder on this machine; from the hub only what is needed, never a pickle.

    Errors: ModelError that says how to do without a network, or that the name or revision is unknown or closed.
    """
    if resolved.folder is not None:
        return resolved
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(
                resolved.hub_id or "",
                revision=resolved.revision,
                allow_patterns=list(_FETCHED),
                ignore_patterns=["*/*"],
            )
        )
    except Exception as error:  # the hub's client raises its own, httpx's and OSError, and none of them helps a user
        raise _unreachable(resolved, error) from error
    if not any((folder / name).is_file() for name in (CONFIG, ADAPTER)):
        raise _nothing_in(resolved.source, folder)
    return Resolved(
        "hub",
        resolved.source,
        folder,
        resolved.hub_id,
        folder.name,  # the commit that was fetched, so that the manifest can name it
        _license(folder),
        (folder / ADAPTER).is_file(),
    )


def source_digest(source: str) -> str:
    """What a model source's weights, config and tokenizer are; a hub id stands for itself. Errors: as `resolve`."""
    folder = resolve(source).folder
    if folder is None:
        return source
    files = sorted(path for path in (*folder.iterdir(), *carried_files(folder)) if path.suffix in _OF_MODELS)
    states = [(path.relative_to(folder).as_posix(), path, path.stat()) for path in files]
    return digest_of({name: _digest(path, state.st_mtime_ns, state.st_size) for name, path, state in states})


@cache
def _digest(path: Path, changed: int, size: int) -> str:
    """The file's digest, computed once as long as it stays as it is: a run asks for it at every stage."""
    return sha256_of(path)


def check_source(source: str) -> list[Problem]:
    """What is wrong with a source, as far as can be seen without loading or downloading; empty where nothing is."""
    return _problems(source, ())


def _problems(source: str, over: Sequence[Path]) -> list[Problem]:
    """over: the adapters that lie on the source, whose base it is."""
    try:
        resolved = resolve(source)
        if resolved.folder is not None:
            weights = weight_files(resolved.folder, adapter=resolved.adapter)
            if resolved.adapter:
                return _adapter_problems(resolved.folder, weights, over)
            return folder_problems(resolved.folder, weights)
        if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
            from huggingface_hub import try_to_load_from_cache

            cached = [
                try_to_load_from_cache(resolved.hub_id or "", name, revision=resolved.revision)
                for name in (CONFIG, ADAPTER)
            ]
            if not any(isinstance(file, str) for file in cached):
                raise _unreachable(resolved, None)
    except LuthierError as error:
        return list(error.problems)
    return []


def _adapter_problems(folder: Path, weights: Sequence[Path], over: Sequence[Path]) -> list[Problem]:
    refuse_circle(folder, over)
    named = f"the base that {folder / ADAPTER} names"
    below = [
        replace(problem, found=f"{problem.found} ({named})")
        for problem in _problems(adapter_base(folder), (*over, folder))
    ]
    return [*weight_problems(folder, weights), *below]


def refuse_circle(folder: Path, over: Sequence[Path]) -> None:
    """Errors: ModelError for an adapter that already lies over itself."""
    if folder.resolve() in [each.resolve() for each in over]:
        raise ModelError(
            "the adapter names itself as its base",
            where=str(folder / ADAPTER),
            expected="the model that it was trained on",
            remedy="write that model's hub id or folder as base_model_name_or_path",
        )


def weight_files(folder: Path, *, adapter: bool = False) -> list[Path]:
    """The safetensors files of a model's (or an adapter's) folder, all there.

    Errors: ModelError where there are only pickles, which can run code when they are read, or where a shard is missing.
    """
    single = folder / ("adapter_model.safetensors" if adapter else "model.safetensors")
    if single.is_file():
        return [single]
    if not adapter and (folder / INDEX).is_file():
        listed = read_json(folder / INDEX).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
            raise ModelError(
                "the index names no files",
                where=str(folder / INDEX),
                expected="weight_map, from the name of each weight to its file",
                remedy="copy or download the folder again",
            )
        names = sorted(set(listed.values()))
        missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
        if missing or not names:
            raise ModelError(
                f"{len(missing)} of {len(names)} weight files are missing: {', '.join(missing[:5]) or 'none is named'}",
                where=str(folder),
                expected=f"every file that {INDEX} names",
                remedy="copy or download the folder again",
            )
        return [folder / name for name in names]
    pickles = sorted(
        file.name for pattern in _PICKLES for file in folder.glob(pattern) if file.name != "training_args.bin"
    )
    if pickles:
        raise ModelError(
            f"the weights are in {', '.join(pickles[:3])}, a format that can run code when it is read",
            where=str(folder),
            expected=single.name,
            remedy="convert them once where you trust them: load with transformers, then save_pretrained",
        )
    raise _run_only(folder, single.name) or ModelError(
        "the folder holds no weights", where=str(folder), expected=single.name, remedy="give a complete folder"
    )


def _run_only(folder: Path, expected: str) -> ModelError | None:
    """The error for a folder of weights in a format for running a model, which loses what training needs."""
    found = sorted(file.name for pattern in _RUN_ONLY for file in folder.glob(pattern))
    if not found:
        return None
    return ModelError(
        f"the weights are in {', '.join(found[:3])}, a format for running a model, not for training it",
        where=str(folder),
        expected=expected,
        remedy="give the model that it was made from",
    )


def adapter_base(folder: Path) -> str:
    """The source of the base that an adapter in `folder` belongs to, as its configuration names it."""
    settings = read_json(folder / ADAPTER)
    base = settings.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(
            "the adapter does not say which model it belongs to",
            where=str(folder / ADAPTER),
            expected="base_model_name_or_path",
            remedy="write the base's hub id or folder there",
        )
    if not base.startswith(PREFIX) and not Path(base).is_absolute() and (folder / base).is_dir():
        return str(folder / base)
    revision = settings.get("revision")
    return f"{base}@{revision}" if revision and not Path(base).exists() and not base.startswith(PREFIX) else base


def _local(source: str, path: Path) -> Resolved:
    config, adapter = (path / CONFIG).is_file(), (path / ADAPTER).is_file()
    if config and adapter:
        raise ModelError(
            "the folder holds a whole model and an adapter, and it is not clear which is meant",
            where=source,
            expected=f"{CONFIG} or {ADAPTER}, not both",
            remedy="move the adapter's files to a folder of their own",
        )
    if config or adapter:
        return Resolved("folder", source, path, license=_license(path), adapter=adapter)
    if (path / "model" / CONFIG).is_file():
        return Resolved("run", source, path / "model", license=_license(path / "model"))
    if (path / "recipe.yaml").is_file():
        raise ModelError(
            "this run has not written its model yet",
            where=source,
            expected=f"model/{CONFIG} in the run's folder",
            remedy="finish the run with the command that started it; it goes on where it stopped",
        )
    raise _nothing_in(source, path)


def _is_path(source: str, path: Path) -> bool:
    """Whether a source that is no folder was meant as one: by its form, or because what it lies in is here."""
    if source.startswith((".", "/", "~")) or "\\" in source or path.is_absolute() or not _HUB.fullmatch(source):
        return True
    if path.is_symlink():
        return True
    return len(path.parts) > 1 and path.parent.is_dir()


def _absent(source: str, path: Path) -> ModelError:
    if source.startswith(("http://", "https://")):
        return ModelError(
            "a model of the hub is named by its id, not by its address",
            where=source,
            expected="org/name, with @revision if one is meant",
            remedy="write " + "/".join(source.split("/")[3:5]),
        )
    parent = path.parent
    siblings: Sequence[str] = [p.name for p in parent.iterdir() if p.is_dir()] if parent.is_dir() else []
    near = nearest(path.name, siblings)
    remedy = f"did you mean '{parent / near}'?" if near else f"paths are relative to {Path.cwd()}"
    found = "the link leads nowhere" if path.is_symlink() else "there is no such folder"
    return ModelError(found, where=source, expected=f"a folder with {CONFIG}, or a run", remedy=remedy)


def _nothing_in(source: str, path: Path) -> ModelError:
    other = _run_only(path, f"{CONFIG} and model.safetensors")
    if other is not None:
        return other
    inside = sorted(p.name for p in path.iterdir() if (p / CONFIG).is_file() or (p / ADAPTER).is_file())
    return ModelError(
        "the folder holds no model",
        where=source,
        expected=f"{CONFIG} (a model), {ADAPTER} (an adapter), or the folder of a run",
        remedy=f"did you mean '{path / inside[0]}'?" if inside else "give the folder that the model was saved to",
    )


def _unreachable(resolved: Resolved, error: Exception | None) -> ModelError:
    kind = type(error).__name__ if error else "offline"
    name = resolved.hub_id or resolved.source
    if kind in ("RepositoryNotFoundError", "GatedRepoError", "RevisionNotFoundError", "HFValidationError"):
        return ModelError(
            f"the hub has no such model, revision, or does not open it to you ({kind})",
            where=resolved.source,
            expected="the id of a model (org/name), with @revision if one is meant",
            remedy=f"look at https://huggingface.co/{name}; for a closed one accept its terms and set HF_TOKEN",
        )
    return ModelError(
        f"the model is not on this machine and the hub cannot be reached ({kind})",
        where=resolved.source,
        expected="a network, a cached copy, or a folder",
        remedy=f"where there is a network: hf download {name} --local-dir FOLDER; copy FOLDER here and write "
        "model: FOLDER. embedded:nano and embedded:minilm need no network",
    )


def _license(folder: Path) -> str | None:
    """The license in the front matter of the folder's model card."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    match = re.match(r"---\s*\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    line = re.search(r"^license:\s*['\"]?([\w.+-]+)", match.group(1), re.MULTILINE) if match else None
    return line.group(1) if line else None
