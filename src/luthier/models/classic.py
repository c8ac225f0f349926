"""Classic classifiers over the features of a frozen body: logistic regression, support vector machines, class means.

A classifier is a transformers model: body, pooling, head. What a head's numbers are is found in classic_solve.py; here
lie the tensors that are kept, and how a class is told by them. Shapes: N texts, H wide, C classes, V support vectors,
P = C (C - 1) / 2. Of several classes a text each has a machine of its own (one against the rest).
Source: Cortes and Vapnik 1995; Chang and Lin 2011 (LIBSVM), section 4; Platt 1999 for probabilities.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import AutoModelForTokenClassification, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput, TokenClassifierOutput

from ..core.errors import ModelError
from ..functional.packing import segment_sum
from .heads import layers
from .pooling import Mode, Pooling, pool

__all__ = [
    "CalibratedHead",
    "ClassicModel",
    "ClassicTagger",
    "Kind",
    "LinearHead",
    "RadialHead",
    "VotingHead",
    "classic_of",
    "head_of",
]

Kind = Literal["logistic", "linear_svm", "rbf_svm", "centroid"]


class LinearHead(nn.Module):
    """[N, C] logits of features [N, H]: exact log-odds for logistic regression, distances to planes for an SVM, how
    near a class's mean is for centroids. Of two classes that exclude each other each has half of the distance.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, width))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, features: Tensor) -> Tensor:
        """[N, C] of features [N, H]."""
        return nn.functional.linear(features, self.weight, self.bias)


class RadialHead(nn.Module):
    """[N, C] sums of an SVM with the kernel exp(-gamma |x - v|^2), one machine a class, or one for two classes.

    vectors [V, H]; slopes [C, V]; bias [C]; gamma [].
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.zeros(1, width))
        self.slopes = nn.Parameter(torch.zeros(classes, 1))
        self.bias = nn.Parameter(torch.zeros(classes))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """[N, C] of features [N, H]."""
        near = torch.exp(-self.gamma * _apart(features, self.vectors))  # [N, V]
        return nn.functional.linear(near, self.slopes, self.bias)

    def resize(self, vectors: int) -> None:
        """Makes room for so many support vectors, whose numbers are then put in."""
        _resize(self, vectors)


class VotingHead(nn.Module):
    """[N, C] votes of an SVM with the kernel exp(-gamma |x - v|^2), one machine for each pair of three or more classes.

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
        _resize(self, vectors)


class CalibratedHead(nn.Module):
    """[N, C] logits by a machine's numbers; their softmax (of `several` classes a text: sigmoid) is a probability.

    Each class's number goes through a sigmoid of its own, factor [C] and shift [C]; of classes that exclude each other
    the probabilities are then divided by their sum.
    """

    def __init__(self, machine: LinearHead | RadialHead | VotingHead, classes: int, *, several: bool) -> None:
        super().__init__()
        self.machine, self.several = machine, several
        self.factor = nn.Parameter(torch.ones(classes))
        self.shift = nn.Parameter(torch.zeros(classes))

    def forward(self, features: Tensor) -> Tensor:
        """[N, C] of features [N, H]."""
        odds = self.factor * self.machine(features) + self.shift
        return odds if self.several else nn.functional.logsigmoid(odds)


def _resize(head: RadialHead | VotingHead, vectors: int) -> None:
    head.vectors = nn.Parameter(head.vectors.new_zeros(vectors, head.vectors.shape[1]))
    head.slopes = nn.Parameter(head.slopes.new_zeros(len(head.slopes), vectors))


def _apart(first: Tensor, second: Tensor) -> Tensor:
    """[N, V] squared distances, without the product that loses small ones."""
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist").square()


def head_of(kind: Kind, width: int, classes: int, *, several: bool, calibrate: bool) -> nn.Module:
    """The head for features of that width, with nothing found yet; several: classes do not exclude each other."""
    machine: LinearHead | RadialHead | VotingHead
    if kind != "rbf_svm":
        machine = LinearHead(width, classes)
    else:
        machine = RadialHead(width, classes) if several or classes == 2 else VotingHead(width, classes)
    return CalibratedHead(machine, classes, several=several) if calibrate else machine


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


class ClassicTagger(ClassicModel):
    """The same for each token by itself, at the length that `pooling` asks for."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """transformers' call; logits [N, L, C]."""
        states = self.body(input_ids=input_ids, attention_mask=attention_mask, **options).last_hidden_state.float()
        states = nn.functional.normalize(states, dim=-1) if self.pooling.normalize else states
        return TokenClassifierOutput(logits=self.head(states))


def classic_of(
    model: Any, kind: Kind, layer: int | None, mode: Mode, *, normalize: bool, calibrate: bool = False
) -> ClassicModel:
    """The classifier over the body of `model`, nothing of it trained; layer: how many blocks it keeps, None: all.

    Errors: ModelError for a model without a head of classes, or with fewer blocks.
    """
    body, classes = model.base_model, model.config.num_labels
    problem, kind_of_head = model.config.problem_type, ClassicModel
    if AutoModelForTokenClassification._model_mapping.get(type(model.config), None) is type(model):
        problem, kind_of_head = "single_label_classification", ClassicTagger
    if body is model or problem not in ("single_label_classification", "multi_label_classification"):
        raise ModelError(
            f"{type(model).__name__} names no class of a text",
            expected="a classifier of texts, or a tagger",
            remedy="use classic with the objective classify or tag",
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
    several = problem == "multi_label_classification"
    head = head_of(kind, width, classes, several=several, calibrate=calibrate)
    found = kind_of_head(body, model.config, head.to(next(body.parameters()).device), Pooling(mode, normalize))
    found.train(model.training)
    return found
