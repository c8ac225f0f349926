"""Features of a frozen body into a classic classifier: logistic regression, a linear or an RBF SVM, or class means.

The texts' pooled hidden states, of any layer (of the objective tag those of each word), go through the body once;
scikit-learn finds the classifier from all of them at once, so that neither epochs nor a learning rate matter. What is
kept are plain tensors. Where a row has a list of classes, each class is told from all other rows. The logits of
logistic regression are log-odds; those of SVMs rank the classes, and with `calibrate` give probabilities by a sigmoid
for each class. For few rows, or as what fine-tuning has to beat; `centroid` also for one row a class, such as its name
(step `class_texts`), and with the objective `self_train` for means of texts that nobody labeled. Needs the extra
`classic`, but for `centroid`. Source: Alain and Bengio 2016 (arXiv:1610.01644); Cortes and Vapnik 1995; Platt 1999;
Snell et al. 2017 (arXiv:1703.05175) for means. Errors: ModelError for anything but a classifier of texts, for files
that do not fit, and always for merge; DataError where a class has too few rows to calibrate.
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

    kind: Literal["logistic", "linear_svm", "rbf_svm", "centroid"] = Field(
        "logistic",
        description="logistic regression; a support vector machine, linear or with a radial kernel; nearest class mean",
    )
    c: float = Field(
        10.0,
        gt=0,
        description="the inverse of regularization, more fits the rows closer; of centroid, a factor of logits",
    )
    calibrate: bool = Field(
        False,
        description="probabilities of an SVM: a sigmoid for each class, fitted to rows held out in turn",
    )
    layer: int | None = Field(None, ge=1, description="features after so many blocks; default: all of them")
    pooling: Literal["mean", "cls", "max", "lasttoken"] = Field("mean", description="of a text's tokens")
    normalize: bool = Field(True, description="features at unit length")

    @property
    def extra(self) -> str | None:
        return None if self.kind == "centroid" else "classic"

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterator[Problem]:
        from ..models.groups import unfoldable_problems

        if phase is None:
            return
        objective = phase.objective.component_name()
        if objective not in ("classify", "self_train", "tag"):
            yield Problem(
                f"classic finds a classifier, and the objective is {objective}",
                expected="the objective classify, self_train or tag",
                remedy="set objective: classify, or take lora, frozen or full",
            )
        if objective == "tag":
            yield from self._unread_of_words()
        for name in ("epochs", "steps", "penalties"):
            if getattr(phase, name):
                yield Problem(
                    f"{name} is read by nothing: classic finds its classifier at once",
                    remedy=f"remove {name}, or set it to null where a shipped recipe has it",
                )
        if getattr(phase.objective, "label_smoothing", 0):
            yield Problem("label_smoothing is read by nothing: classic has a loss of its own", remedy="remove it")
        if objective == "self_train" and "weight" in phase.objective.model_fields_set:
            yield Problem(
                "weight is read by nothing: classic counts a text that the teacher named as it does a labeled row",
                remedy="remove it; unlabeled says how many texts stand beside a labeled row",
            )
        if self.calibrate and self.kind not in ("linear_svm", "rbf_svm"):
            yield Problem(
                f"calibrate is for SVMs, and the kind is {self.kind}",
                expected="kind: linear_svm or rbf_svm, whose numbers are no probabilities by themselves",
                remedy="remove it",
            )
        yield from unfoldable_problems(recipe, phase, "classifier")

    def _unread_of_words(self) -> Iterator[Problem]:
        """What does not go with words: they are many, each is a row by itself, and some tags may not occur."""
        if self.kind not in ("logistic", "linear_svm"):
            yield Problem(
                f"{self.kind} is for classes of texts, and the objective is tag",
                expected="kind: logistic or linear_svm, whose time grows with the words and not with their square",
                remedy="set kind: logistic",
            )
        for name in sorted(self.model_fields_set & {"pooling", "calibrate"}):
            yield Problem(f"{name} is read by nothing: each word is told from its first token", remedy=f"remove {name}")

    def apply(self, model: nn.Module) -> nn.Module:
        from ..models.classic import ClassicModel, classic_of

        if isinstance(model, ClassicModel):
            raise ModelError("the model has a classic classifier already", remedy="one phase with classic is enough")
        rule: dict[str, Any] = {"normalize": self.normalize, "calibrate": self.calibrate}
        return classic_of(model, self.kind, self.layer, self.pooling, **rule)

    def solve(self, role: Role, batches: Iterable[Batch]) -> None:
        import numpy as np
        import torch

        from ..models.classic import ClassicTagger
        from ..models.classic_solve import solve

        model: Any = role.model
        found, labels, weights = [], [], []
        head, model.head = model.head, torch.nn.Identity()
        try:
            for batch in batches:
                if isinstance(model, ClassicTagger):
                    assert batch.targets is not None
                    found.append(role.token_logits(batch).double().cpu().numpy())
                    labels.append(batch.targets[batch.supervised].cpu().numpy())
                    lengths = batch.starts.diff().long()
                    weights.append(batch.weights.repeat_interleave(lengths)[batch.supervised].double().cpu().numpy())
                    continue
                found.append(role.class_logits(batch).double().cpu().numpy())
                labels.append(batch.fields["label"].cpu().numpy())
                of_class = batch.fields.get("label_weight")  # of several classes a text, where they are balanced
                weight = batch.weights if of_class is None else batch.weights[:, None] * of_class
                weights.append(weight.double().cpu().numpy())
        finally:
            model.head = head
        known = model.config.id2label
        names = [str(known[number]) for number in sorted(known)]
        x, classes, counts = (np.concatenate(parts) for parts in (found, labels, weights))
        solve(model.head, self.kind, x, classes, counts, self.c, names, normalize=self.normalize)

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        head = [(name, parameter) for name, parameter in model.named_parameters() if name.startswith("head.")]
        return [ParameterGroup("head", head)]

    def save(self, model: nn.Module, folder: Path) -> None:
        """`trained.safetensors`, and `classic.json` with what is needed to compute by them."""
        from ..models.weights import write_weights

        tensors = _head(model)
        count = {"vectors": len(_machine(model).vectors)} if self.kind == "rbf_svm" else {}
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
        if self.kind == "rbf_svm":
            _machine(model).resize(int(found["vectors"]))
        read_weights(folder, _head(model))

    def merge(self, model: nn.Module) -> NoReturn:
        raise ModelError(
            f"a classifier of the kind {self.kind} on pooled features is no head that transformers has",
            expected="an adaptation of the model's own head, for a merged model",
            remedy="use head, or keep the classifier beside its base, as luthier export does",
        )

    def _shape(self) -> dict[str, Any]:
        return self.model_dump(include={"kind", "layer", "pooling", "normalize", "calibrate"})


def _machine(model: Any) -> Any:
    """The head, out of what makes probabilities of its numbers."""
    return getattr(model.head, "machine", model.head)


def _head(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.data for name, parameter in model.named_parameters() if name.startswith("head.")}
