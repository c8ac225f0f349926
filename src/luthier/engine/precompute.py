"""What other roles say of the rows, asked once before the first step and kept in the phase's folder.

The reference is the policy itself before its first step: every adaptation leaves the model's answers as they were until
it is trained, whatever it trains (a tied output layer, embeddings, a head), so that no second model is held and none
has to be switched back. What was kept is used again for a row whose tokens are the same, asked of a model whose weights
are the same; the template and the tokenizer are in the tokens. A teacher is a model of its own (engine/teachers.py),
and may be shown the rows in tokens of its own (`Row.views`), of which nothing is needed afterwards.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.contracts import Batch, Objective, Role, Row
from ..core.errors import ModelError
from ..core.on_policy import OnPolicy
from ..core.run import digest_of
from ..functional.packing import micro_batches, pack
from ..models.attention import still
from ..models.roles import Models
from ..models.weights import read_tensors, write_tensors
from .identity import weights_of_model

__all__ = ["precompute"]

_SAVED_EVERY = 60.0  # seconds: what a run that is killed loses at most
Values = dict[str, dict[str, NDArray[Any]]]


def precompute(
    objective: Objective,
    reference: Role,
    rows: Sequence[Row],
    *,
    device: torch.device,
    micro_tokens: int,
    others: Mapping[str, Role] | None = None,
    file: Path | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """The rows with the fields that the objective asks other roles for; as they are where it names no role.

    reference: the policy, not trained yet. others: the models of the objective's `sources`, by role. file: where the
    fields are kept; None keeps nothing. note: is told what was done.
    """
    if not objective.roles or not rows or isinstance(objective, OnPolicy):  # of answers that are still to come
        return list(rows)
    began = time.monotonic()
    given = dict(others or {})
    asked = [reference.model, *(given[name].model for name in sorted(given))]
    belongs = _belongs(objective, given or {"reference": reference}) if file is not None else ""
    known = _Kept(file, belongs, objective.of_tokens)
    names = [_digest(row) for row in rows]
    todo = [index for index, name in enumerate(names) if name not in known.values]
    lengths = [max(len(one.ids) for one in (row, *row.views.values())) for row in rows]
    todo.sort(key=lambda index: (-lengths[index], index))  # memory runs out at once or never
    saved = time.monotonic()
    models = Models(reference, {"reference": reference, **given})
    with ExitStack() as stack:
        for model in asked:
            stack.enter_context(still(model))
        for chosen in micro_batches(todo, lengths, micro_tokens):
            batch = pack([rows[index] for index in chosen])
            found = objective.precompute(models, batch.to(device))
            arrays = {field: _by_row(batch, value, field in objective.of_tokens) for field, value in found.items()}
            for place, index in enumerate(chosen):
                known.values[names[index]] = {field: value[place] for field, value in arrays.items()}
            if time.monotonic() - saved > _SAVED_EVERY:
                known.write()
                saved = time.monotonic()
    if todo:
        known.write()
        note(_told(" and ".join(sorted(objective.roles)), len(todo), len(rows), time.monotonic() - began))
    return [_with(row, known.values[name], objective.of_tokens) for row, name in zip(rows, names, strict=True)]


def _belongs(objective: Objective, asked: Mapping[str, Role]) -> str:
    parameters = {name: getattr(objective, name) for name in objective.asked_with}
    weights = {name: weights_of_model(role.model) for name, role in asked.items()}
    return digest_of([objective.component_name(), weights, parameters])


def _by_row(batch: Batch, value: Tensor, of_tokens: bool) -> list[NDArray[Any]]:
    """What belongs to each row: of [S, ...] its own, of [N, ...] those of its supervised tokens."""
    array = value.cpu().numpy()
    if not of_tokens:
        return list(array)
    marks = np.concatenate([[0], batch.supervised.cumsum(0).numpy()])
    return np.split(array, marks[batch.starts[1:-1].numpy()])


def _with(row: Row, found: Mapping[str, NDArray[Any]], of_tokens: frozenset[str]) -> Row:
    fields = {name: value for name, value in found.items() if name not in of_tokens}
    tokens = {name: value for name, value in found.items() if name in of_tokens}
    return replace(row, fields={**row.fields, **fields}, tokens={**row.tokens, **tokens}, views={})


def _told(whom: str, asked: int, rows: int, seconds: float) -> str:
    kept = f", {rows - asked} were kept from before" if asked < rows else ""
    return f"the {whom} was asked about {asked} rows in {seconds:,.1f} s{kept}"


def _digest(row: Row) -> str:
    said = hashlib.sha256(repr(row.branches).encode())
    for one in (row, *(row.views[name] for name in sorted(row.views))):
        said.update(one.ids.tobytes() + one.supervised.tobytes())
        said.update(b"" if one.types is None else one.types.tobytes())
        for name in sorted(one.tokens):  # where two tokenizers agree, say
            said.update(one.tokens[name].tobytes())
    return said.hexdigest()


class _Kept:
    """The fields by the digest of their row, in a file that belongs to one objective and one model.

    Fields of tokens lie end to end, and `lengths` says how many belong to each row.
    """

    def __init__(self, file: Path | None, belongs: str, of_tokens: frozenset[str] = frozenset()) -> None:
        self.file, self.belongs, self.of_tokens = file, belongs, of_tokens
        self.values: Values = {}
        if file is not None and file.is_file():
            try:
                found = read_tensors(file)
            except ModelError:
                return  # torn: what it held is asked again
            if _text(found.pop("belongs", None)) == belongs:
                names = found.pop("rows").numpy()
                ends = found.pop("lengths", torch.zeros(0, dtype=torch.int64)).cumsum(0)[:-1].numpy()
                fields: dict[str, Any] = {name: value.numpy() for name, value in found.items()}
                fields = {n: np.split(value, ends) if n in self.of_tokens else value for n, value in fields.items()}
                self.values = {
                    bytes(name).hex(): {field: value[at] for field, value in fields.items()}
                    for at, name in enumerate(names)
                }

    def write(self) -> None:
        """Writes all that is known, in the order of the digests."""
        if self.file is None:
            return
        order = sorted(self.values)
        tensors: dict[str, Tensor] = {
            "belongs": torch.frombuffer(bytearray(self.belongs.encode()), dtype=torch.uint8),
            "rows": torch.from_numpy(np.stack([np.frombuffer(bytes.fromhex(name), dtype=np.uint8) for name in order])),
        }
        fields: Mapping[str, Any] = self.values[order[0]]
        for field in fields:
            every = [self.values[name][field] for name in order]
            of_tokens = field in self.of_tokens
            tensors[field] = torch.from_numpy(np.concatenate(every) if of_tokens else np.stack(every))
            if of_tokens:
                tensors["lengths"] = torch.tensor([len(value) for value in every])
        write_tensors(self.file, tensors, {"format": "pt"})


def _text(value: Tensor | None) -> str:
    return "" if value is None else bytes(value.numpy()).decode()
