"""Features of a frozen body into a classic classifier: logistic regression, a linear or an RBF support vector machine.

The texts' pooled hidden states, of any layer, go through the body once; scikit-learn finds the classifier from all of
them at once, so that neither epochs nor a learning rate matter. What is kept are plain tensors. The logits of logistic
regression are log-odds; those of SVMs rank the classes and are no probabilities. For few rows, or as what fine-tuning
has to beat. Needs the extra `classic`. Source: Alain and Bengio 2016 (arXiv:1610.01644); Cortes and Vapnik 1995.
Errors: ModelError for anything but a classifier of one class a text, for files that do not fit, and always for merge.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from pydantic import Field

from ..core.contracts import Adaptation, Batch, ParameterGroup, Role
from ..core.errors import ModelError, Problem
from ..core.files import write_atomic

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..core.recipe import Phase, Recipe

__all__ = ["Classic"]

CONFIG = "classic.json"


class Classic(Adaptation):
    """Only the classifier is found; the body stays as it is, in evaluation mode."""

    example: ClassVar[dict[str, Any]] = {"kind": "rbf_svm", "c": 5.0, "layer": 1, "pooling": "cls"}
    usual_lr: ClassVar[float] = 1e-3
    solved: ClassVar[bool] = True

    kind: Literal["logistic", "linear_svm", "rbf_svm"] = Field(
        "logistic", description="logistic regression, or a support vector machine: linear, or with a radial kernel"
    )
    c: float = Field(10.0, gt=0, description="the inverse of regularization; more fits the training rows closer")
    layer: int | None = Field(None, ge=1, description="features after so many blocks; default: all of them")
    pooling: Literal["mean", "cls", "max", "lasttoken"] = Field("mean", description="of a text's tokens")
    normalize: bool = Field(True, description="features at unit length")

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterator[Problem]:
        if phase is None:
            return
        if phase.objective.component_name() != "classify":
            yield Problem(
                f"classic finds a classifier, and the objective is {phase.objective.component_name()}",
                expected="the objective classify",
                remedy="set objective: classify, or take lora, frozen or full",
            )
        for name in ("epochs", "steps", "penalties"):
            if getattr(phase, name):
                yield Problem(
                    f"{name} is read by nothing: classic finds its classifier at once", remedy=f"remove {name}"
                )
        names = [one.name for one in recipe.phases]
        for number, later in enumerate(recipe.phases[1:], 1):
            start = later.from_ if later.from_ in names else names[number - 1] if later.from_ is None else None
            if start == phase.name:
                yield Problem(
                    f"the phase '{later.name}' starts from '{phase.name}', whose classifier cannot be folded in",
                    expected="classic in the last phase",
                    remedy="start the later phase from another with from:",
                )

    def apply(self, model: nn.Module) -> nn.Module:
        from ..models.classic import ClassicModel, classic_of

        if isinstance(model, ClassicModel):
            raise ModelError("the model has a classic classifier already", remedy="one phase with classic is enough")
        return classic_of(model, self.kind, self.layer, self.pooling, normalize=self.normalize)

    def solve(self, role: Role, batches: Iterable[Batch]) -> None:
        import numpy as np
        import torch

        from ..models.classic import solve

        model: Any = role.model
        found, labels, weights = [], [], []
        head, model.head = model.head, torch.nn.Identity()
        try:
            for batch in batches:
                found.append(role.class_logits(batch).double().cpu().numpy())
                labels += batch.fields["label"].tolist()
                weights += batch.weights.tolist()
        finally:
            model.head = head
        solve(model.head, self.kind, np.concatenate(found), labels, weights, self.c)

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        head = [(name, parameter) for name, parameter in model.named_parameters() if name.startswith("head.")]
        return [ParameterGroup("head", head)]

    def save(self, model: nn.Module, folder: Path) -> None:
        """`trained.safetensors`, and `classic.json` with what is needed to compute by them."""
        from ..models.weights import write_weights

        tensors = _head(model)
        count = {"vectors": len(tensors["head.vectors"])} if self.kind == "rbf_svm" else {}
        write_weights(folder, tensors, {"adaptation": "classic"})
        write_atomic(folder / CONFIG, json.dumps(self._shape() | count, indent=2, sort_keys=True) + "\n")

    def load(self, model: nn.Module, folder: Path) -> None:
        from ..models.weights import read_weights

        path = folder / CONFIG
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        problems = [
            Problem(
                f"the classifier was found with {name} {found.get(name)}, not {value}", str(path), remedy=f"set {name}"
            )
            for name, value in self._shape().items()
            if found.get(name) != value
        ]
        if problems:
            raise ModelError(problems)
        whole: Any = model
        if self.kind == "rbf_svm":
            whole.head.resize(int(found["vectors"]))
        read_weights(folder, _head(model))

    def merge(self, model: nn.Module) -> NoReturn:
        raise ModelError(
            f"a classifier of the kind {self.kind} on pooled features is no head that transformers has",
            expected="an adaptation of the model's own head, for a merged model",
            remedy="use head, or keep the classifier beside its base, as luthier export does",
        )

    def _shape(self) -> dict[str, Any]:
        return {"kind": self.kind, "layer": self.layer, "pooling": self.pooling, "normalize": self.normalize}


def _head(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.data for name, parameter in model.named_parameters() if name.startswith("head.")}
