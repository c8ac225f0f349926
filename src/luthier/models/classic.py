"""Classic classifiers over the features of a frozen body: logistic regression and support vector machines.

A classifier is a transformers model: body, pooling, head. scikit-learn finds the head's numbers; what is kept of it
are tensors, and its predictions are computed here. Shapes: N texts, H wide, C classes, V support vectors,
P = C (C - 1) / 2.
Source: Cortes and Vapnik 1995; Fan et al. 2008 (LIBLINEAR); Chang and Lin 2011 (LIBSVM), section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from ..core.errors import MissingExtra, ModelError
from ..functional.packing import segment_sum
from .heads import layers
from .pooling import Mode, Pooling, pool

__all__ = ["ClassicModel", "Kind", "LinearHead", "RadialHead", "classic_of", "solve"]

Kind = Literal["logistic", "linear_svm", "rbf_svm"]


class LinearHead(nn.Module):
    """[N, C] logits of features [N, H]: exact log-odds for logistic regression, distances to planes for an SVM."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, width))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, features: Tensor) -> Tensor:
        """[N, C] of features [N, H]."""
        return nn.functional.linear(features, self.weight, self.bias)


class RadialHead(nn.Module):
    """[N, C] votes of an SVM with the kernel exp(-gamma |x - v|^2), one machine for each pair of classes.

    vectors [V, H], those of each class together; slopes [C - 1, V], as LIBSVM keeps them; bias [P]; sizes [C] of
    support vectors by class; gamma []. The votes' fractions are the machines' sums of distances, below a half.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.zeros(classes, width))
        self.slopes = nn.Parameter(torch.zeros(classes - 1, classes))
        self.bias = nn.Parameter(torch.zeros(classes * (classes - 1) // 2))
        self.sizes = nn.Parameter(torch.ones(classes))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """[N, C] of features [N, H]."""
        near = torch.exp(-self.gamma * _apart(features, self.vectors))  # [N, V]
        owner = torch.arange(len(self.sizes), device=near.device).repeat_interleave(self.sizes.long())
        # [C - 1, C, N]: what each class's support vectors say in each of its machines.
        said = torch.stack([segment_sum((slope * near).T, owner, len(self.sizes)) for slope in self.slopes])
        votes, sums = near.new_zeros(len(near), len(self.sizes)), near.new_zeros(len(near), len(self.sizes))
        for number, (first, second) in enumerate(combinations(range(len(self.sizes)), 2)):
            far = said[second - 1, first] + said[first, second] + self.bias[number]
            for which, sign in ((first, far), (second, -far)):
                votes[:, which] += (sign > 0).to(votes)
                sums[:, which] += sign
        return votes + sums / (3 * (sums.abs() + 1))

    def resize(self, vectors: int) -> None:
        """Makes room for so many support vectors, whose numbers are then put in."""
        self.vectors = nn.Parameter(self.vectors.new_zeros(vectors, self.vectors.shape[1]))
        self.slopes = nn.Parameter(self.slopes.new_zeros(len(self.slopes), vectors))


def _apart(first: Tensor, second: Tensor) -> Tensor:
    """[N, V] squared distances, without the product that loses small ones."""
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist").square()


class ClassicModel(PreTrainedModel):  # type: ignore[misc]
    """A body, what pools its hidden states, and a head that scikit-learn found."""

    base_model_prefix = "body"
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, body: PreTrainedModel, config: Any, head: nn.Module, pooling: Pooling) -> None:
        super().__init__(config)
        self.body, self.head, self.pooling = body, head, pooling

    def features(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """[N, H] float32 of hidden states on a grid [N, L, H] that is padded at its end, mask [N, L]."""
        lengths = mask.sum(-1)
        starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        return pool(hidden[mask.bool()], starts, self.pooling)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """transformers' call; logits [N, C]."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask, **options).last_hidden_state
        return SequenceClassifierOutput(logits=self.head(self.features(hidden, mask)))


def classic_of(model: Any, kind: Kind, layer: int | None, mode: Mode, *, normalize: bool) -> ClassicModel:
    """The classifier over the body of `model`, nothing of it trained; layer: how many blocks it keeps, None: all.

    Errors: ModelError for a model without a head of classes, or with fewer blocks.
    """
    body, classes = model.base_model, model.config.num_labels
    if body is model or model.config.problem_type != "single_label_classification":
        raise ModelError(
            f"{type(model).__name__} names no class of a text",
            expected="a classifier of one class a text",
            remedy="use classic with the objective classify, and one label a row",
        )
    blocks = layers(body)
    if layer is not None and layer < len(blocks):
        name = blocks[0][0].rpartition(".")[0]
        setattr(body.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], body.get_submodule(name)[:layer])
    elif layer is not None and layer > len(blocks):
        raise ModelError(f"the model has {len(blocks)} blocks", remedy=f"set layer to at most {len(blocks)}")
    if getattr(body, "pooler", None) is not None:
        body.pooler = None
    body.requires_grad_(False)
    width = int(model.config.get_text_config().hidden_size)
    head = (RadialHead if kind == "rbf_svm" else LinearHead)(width, classes)
    found = ClassicModel(body, model.config, head.to(next(body.parameters()).device), Pooling(mode, normalize))
    found.train(model.training)
    return found


def solve(
    head: nn.Module, kind: Kind, features: NDArray[Any], labels: Sequence[int], weights: Sequence[float], c: float
) -> None:
    """Finds the head's numbers from features [N, H] and their classes, which all occur; weights of rows multiply c.

    Errors: MissingExtra without scikit-learn.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.svm import SVC, LinearSVC
    except ImportError as error:
        raise MissingExtra.of("classic", "the adaptation classic") from error
    x = np.asarray(features, dtype=np.float64)
    gamma = 1 / (x.shape[1] * x.var())  # scikit-learn's "scale"
    machine: Any
    if kind == "logistic":
        machine = LogisticRegression(C=c, max_iter=2000)
    elif kind == "linear_svm":
        machine = LinearSVC(C=c, max_iter=5000, random_state=0)
    else:
        machine = SVC(C=c, kernel="rbf", gamma=gamma)
    machine.fit(x, np.asarray(labels), sample_weight=np.asarray(weights))
    numbers = _radial(machine) | {"gamma": gamma} if kind == "rbf_svm" else _linear(machine)
    device = next(head.parameters()).device
    for name, value in numbers.items():
        setattr(head, name, nn.Parameter(torch.tensor(value, dtype=torch.float32, device=device).contiguous()))


def _linear(machine: Any) -> dict[str, Any]:
    """Of two classes scikit-learn keeps the second's plane alone."""
    weight, bias = machine.coef_, machine.intercept_
    if len(weight) == 1:
        weight, bias = np.concatenate([0 * weight, weight]), np.array([0.0, bias[0]])
    return {"weight": weight, "bias": bias}


def _radial(machine: Any) -> dict[str, Any]:
    # Of two classes scikit-learn turns LIBSVM's signs round.
    sign = -1.0 if len(machine.n_support_) == 2 else 1.0
    return {
        "vectors": machine.support_vectors_,
        "slopes": sign * machine.dual_coef_,
        "bias": sign * machine.intercept_,
        "sizes": machine.n_support_,
    }
