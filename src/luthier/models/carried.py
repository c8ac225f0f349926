"""An adaptation that cannot be folded into the weights: kept in `adapter/` in its base's folder, and put back on there.

model/                    the plain base, which transformers loads as it is, without the adaptation; a head that was new
                          and that the adaptation has trained or replaced is left out, so that nobody takes it for one
model/adapter/            the adaptation's own files, and luthier.json: how to put it on, and what was left out
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..core.component import build, describe
from ..core.contracts import Adaptation
from ..core.errors import LuthierError, ModelError
from ..core.files import write_atomic
from .configuration import CLASSIFIERS, Task
from .files import CARRIED, CARRIED_SPEC, CONFIG, read_json

__all__ = ["carried_in", "left_out", "put_on", "refuse_other_classes", "superseded", "write_carried"]


def superseded(adaptation: Adaptation, model: nn.Module, fresh: Iterable[str]) -> frozenset[str]:
    """Of the base's `fresh` weights those that `adaptation` replaced in `model` or trained: it keeps them itself."""
    trained = {name for group in adaptation.groups(model) for name, _ in group.parameters}
    there = {name for name, _ in model.named_parameters(remove_duplicate=False)}  # tied weights have several names
    return frozenset(name for name in fresh if _ends(trained, name) or not _ends(there, name))


def _ends(names: Iterable[str], name: str) -> bool:
    """Whether one of `names` is that parameter, by itself or in a module around it."""
    return any(one == name or one.endswith(f".{name}") for one in names)


def write_carried(
    adaptation: Adaptation, model: nn.Module, folder: Path, left_out: frozenset[str] = frozenset()
) -> None:
    """Writes what `adaptation` trained in `model` beside the base that lies in `folder`; the description comes last.

    left_out: the base's weights that do not lie there.
    """
    adaptation.save(model, folder / CARRIED)
    spec: dict[str, Any] = {"adaptation": describe(adaptation)}
    if left_out:
        spec["left_out"] = sorted(left_out)
    write_atomic(folder / CARRIED / CARRIED_SPEC, json.dumps(spec, indent=1) + "\n")


def carried_in(folder: Path) -> Adaptation | None:
    """The adaptation that the model in `folder` carries beside its weights, if any.

    Errors: ModelError where its description cannot be read or names an adaptation that this version does not have.
    """
    path = folder / CARRIED / CARRIED_SPEC
    if not path.is_file():
        return None
    try:
        spec: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = build("adaptations", spec["adaptation"])
        if not all(isinstance(name, str) for name in _listed(spec)):
            raise TypeError("left_out lists names of weights")
    except (OSError, ValueError, KeyError, TypeError, LuthierError) as error:
        raise ModelError(
            f"the adaptation beside the model cannot be understood: {error}",
            where=str(path),
            expected="the description that luthier export wrote",
            remedy="export the run again, with the version that trained it",
        ) from error
    assert isinstance(found, Adaptation)
    return found


def left_out(folder: Path) -> frozenset[str]:
    """The base's weights that the carried adaptation has its own of; to be asked after `carried_in`."""
    return frozenset(_listed(json.loads((folder / CARRIED / CARRIED_SPEC).read_text(encoding="utf-8"))))


def _listed(spec: Mapping[str, Any]) -> list[Any]:
    found = spec.get("left_out", [])
    if not isinstance(found, list):
        raise TypeError("left_out is no list")
    return found


def refuse_other_classes(adaptation: Adaptation, folder: Path, task: Task, labels: Sequence[str]) -> None:
    """Errors: ModelError where what lies beside the classifier in `folder` was trained for other classes than `labels`:
    a head alone could be replaced, and it may be more than one.
    """
    config = read_json(folder / CONFIG)
    kinds = [str(name) for name in config.get("architectures") or ()]
    classifies = task in CLASSIFIERS and any(name.endswith(CLASSIFIERS[task]) for name in kinds)
    named = config.get("id2label") or {}
    own = [named[key] for key in sorted(named, key=int)]
    if (classifies or adaptation.words) and own != list(labels):
        raise ModelError(
            f"{adaptation.component_name()} was not trained on these classes, but on {_some(own)}",
            where=str(folder),
            expected=f"exactly the classes of the data: {_some(labels)}",
            remedy="train it on rows of these classes first, or give the model that it was made from",
        )


def _some(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def put_on(adaptation: Adaptation, model: nn.Module, folder: Path, tokenizer: Any) -> nn.Module:
    """The model with the adaptation that its folder carries. Errors: ModelError for files that do not fit."""
    adapted = adaptation.apply(model)
    adaptation.furnish(adapted, tokenizer)
    adaptation.load(adapted, folder / CARRIED)
    return adapted.eval()
