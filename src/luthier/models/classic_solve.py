"""Finds the numbers of a classic head from features and classes: scikit-learn's machines, or the classes' means.

Shapes: N texts, H wide, C classes, V support vectors. Where a text has one class, scikit-learn decides how machines for
more than two are made (logistic regression by softmax, linear SVMs one against the rest, radial ones in pairs); where
it may have several, each class has a machine of its own. Source: Fan et al. 2008 (LIBLINEAR); Chang and Lin 2011
(LIBSVM); Platt 1999 and Zadrozny and Elkan 2002 for probabilities; Tibshirani et al. 2002, without shrinkage, for
means. Errors: MissingExtra without scikit-learn, which means alone do not need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..core.errors import DataError, MissingExtra
from .classic import CalibratedHead, Kind, RadialHead

__all__ = ["FOLDS", "solve"]

FOLDS = 5
"""Parts of the rows whose numbers are foretold by a machine that never saw them, where probabilities are asked for."""
_NEVER = -1e4
"""The logit of a class that does not occur: below all others, and finite, so that a loss is."""
Array = NDArray[Any]


def solve(
    head: nn.Module,
    kind: Kind,
    features: Array,
    labels: Array,
    weights: Array,
    c: float,
    names: Sequence[str] = (),
    *,
    normalize: bool = False,
) -> None:
    """Finds the head's numbers from features [N, H] and labels: [N] classes or [N, C] of 0 and 1. Of [N] classes some
    may not occur where the machine is linear (a tag that no row has): to these the numbers give no chance.

    weights: [N] of rows, or [N, C]; they multiply c. names: of the classes, for errors. normalize: means are brought to
    unit length. Errors: DataError where probabilities are asked for and a class has a single row, and where these or a
    radial machine find none of a class.
    """
    x = np.asarray(features, dtype=np.float64)
    machine: Any = head.machine if isinstance(head, CalibratedHead) else head
    if kind == "centroid":
        _put(machine, _means(x, labels, weights, c, len(machine.bias), normalize=normalize))
        return
    gamma = float(1 / (x.shape[1] * x.var()))  # scikit-learn's "scale"
    told = names if isinstance(head, CalibratedHead) else None
    if labels.ndim == 1:
        if kind == "rbf_svm" or told is not None:
            _refuse_absent(labels, names)
        found, sigmoids = _fitted(kind, c, gamma, x, labels, weights, told)
        numbers = _radial(found) if kind == "rbf_svm" else _linear(found, len(machine.bias))
    else:
        weights = np.broadcast_to(weights if weights.ndim == 2 else weights[:, None], labels.shape)
        each = [_one(kind, c, gamma, x, labels, weights, number, told) for number in range(labels.shape[1])]
        numbers = _together(x, [numbers for numbers, _ in each], radial=isinstance(machine, RadialHead))
        sigmoids = [pair for _, pair in each]
    _put(machine, numbers | ({"gamma": gamma} if kind == "rbf_svm" else {}))
    if isinstance(head, CalibratedHead):
        if labels.ndim == 1 and len(sigmoids) == 1:  # the second class's, of the whole distance
            (slope, offset) = sigmoids[0]
            sigmoids = [(2 * slope, -offset), (2 * slope, offset)]
        _put(head, {"factor": [-slope for slope, _ in sigmoids], "shift": [-offset for _, offset in sigmoids]})


def _refuse_absent(labels: Array, names: Sequence[str]) -> None:
    """Errors: DataError for a class without rows, whose machines would be another class's."""
    absent = sorted(set(range(len(names))) - set(labels.tolist()))
    if absent:
        raise DataError(
            f"no row of the class '{names[absent[0]]}' can be learned from",
            expected="a row of each class that fits into max_length",
            remedy="raise max_length, look at the rows of this class, or take kind: logistic",
        )


def _fitted(
    kind: Kind, c: float, gamma: float, x: Array, labels: Array, weights: Array, names: Sequence[str] | None
) -> tuple[Any, list[tuple[float, float]]]:
    """The machine, and the (slope, offset) of each sigmoid 1 / (1 + exp(slope f + offset)); none without `names`."""
    try:
        from sklearn.calibration import CalibratedClassifierCV
        from sklearn.linear_model import LogisticRegression
        from sklearn.svm import SVC, LinearSVC
    except ImportError as error:
        raise MissingExtra.of("classic", "the adaptation classic") from error
    machine: Any
    if kind == "logistic":
        machine = LogisticRegression(C=c, max_iter=2000)
    elif kind == "linear_svm":
        machine = LinearSVC(C=c, max_iter=5000, random_state=0)
    else:
        machine = SVC(C=c, kernel="rbf", gamma=gamma)
    if names is None:
        return machine.fit(x, labels, sample_weight=weights), []
    values, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        rare = str(names[int(values[counts.argmin()])]) if len(names) else str(values[counts.argmin()])
        raise DataError(
            f"the class '{rare}' has a single row",
            expected="two rows of each class at least, one to learn from and one to be foretold",
            remedy="set calibrate: false, take kind: logistic, or add rows of this class",
        )
    folds = int(min(FOLDS, counts.min()))
    whole = CalibratedClassifierCV(machine, method="sigmoid", cv=folds, ensemble=False)
    (found,) = whole.fit(x, labels, sample_weight=weights).calibrated_classifiers_
    return found.estimator, [(float(one.a_), float(one.b_)) for one in found.calibrators]


def _one(
    kind: Kind,
    c: float,
    gamma: float,
    x: Array,
    labels: Array,
    weights: Array,
    number: int,
    names: Sequence[str] | None,
) -> tuple[dict[str, Any], tuple[float, float]]:
    """The machine of a class against all rows without it; the odds of its rows where there are none on a side."""
    own, weight = labels[:, number].astype(np.int64), weights[:, number]
    if own.min() == own.max():
        odds = math.log((own.sum() + 0.5) / ((1 - own).sum() + 0.5))
        plain = {"weight": np.zeros(x.shape[1]), "bias": odds, "support": np.zeros(0, dtype=np.int64), "slopes": []}
        return plain, (-1.0, 0.0)
    sides = None if names is None else (f"not {names[number]}", names[number]) if len(names) else ()
    machine, sigmoids = _fitted(kind, c, gamma, x, own, weight, sides)
    pair = sigmoids[0] if sigmoids else (-1.0, 0.0)
    if kind != "rbf_svm":
        return {"weight": machine.coef_[0], "bias": float(machine.intercept_[0])}, pair
    slopes, support = machine.dual_coef_[0], machine.support_
    return {"bias": float(machine.intercept_[0]), "support": support, "slopes": slopes}, pair


def _together(x: Array, each: Sequence[dict[str, Any]], *, radial: bool) -> dict[str, Any]:
    """The machines of all classes in the tensors of one head; support vectors that several have are kept once."""
    bias = np.array([one["bias"] for one in each])
    if not radial:
        return {"weight": np.stack([one["weight"] for one in each]), "bias": bias}
    kept = np.unique(np.concatenate([one["support"] for one in each]).astype(np.int64))
    slopes = np.zeros((len(each), len(kept)))
    for row, one in zip(slopes, each, strict=True):
        row[np.searchsorted(kept, one["support"])] = one["slopes"]
    return {"vectors": x[kept], "slopes": slopes, "bias": bias}


def _means(x: Array, labels: Array, weights: Array, c: float, classes: int, *, normalize: bool) -> dict[str, Any]:
    """Logits c (m x - |m|^2 / 2), which differ as half the squared distances from x to the classes' means m do; of
    several classes a text, from the mean of a class's rows and that of the others. A class without rows has no chance.
    """
    several = labels.ndim == 2
    there = labels.astype(np.float64) if several else np.eye(classes)[labels]  # [N, C]
    counted = weights if weights.ndim == 2 else weights[:, None]
    weight, bias = _mean(x, there * counted, c, normalize=normalize)
    if several:
        rest, other = _mean(x, (1 - there) * counted, c, normalize=normalize)
        weight, bias = weight - rest, bias - other
    known = (there * counted).sum(0) > 0
    return {"weight": np.where(known[:, None], weight, 0.0), "bias": np.where(known, bias, _NEVER)}


def _mean(x: Array, share: Array, c: float, *, normalize: bool) -> tuple[Array, Array]:
    """[C, H] weights and [C] biases by means of x [N, H] in which rows count by share [N, C]."""
    means = share.T @ x / np.maximum(share.sum(0), np.finfo(np.float64).tiny)[:, None]
    if normalize:
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return c * means, -c * (means**2).sum(1) / 2


def _linear(machine: Any, classes: int) -> dict[str, Any]:
    """Of two classes scikit-learn keeps the second's plane alone; of one that does not occur nothing."""
    weight, bias = machine.coef_, machine.intercept_
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.array([-bias[0], bias[0]]) / 2
    whole, odds = np.zeros((classes, weight.shape[1])), np.full(classes, _NEVER)
    whole[machine.classes_], odds[machine.classes_] = weight, bias
    return {"weight": whole, "bias": odds}


def _radial(machine: Any) -> dict[str, Any]:
    numbers = {"vectors": machine.support_vectors_, "slopes": machine.dual_coef_, "bias": machine.intercept_}
    if len(machine.n_support_) > 2:
        return numbers | {"sizes": machine.n_support_}
    half = np.array([[-0.5], [0.5]])
    return numbers | {"slopes": half * numbers["slopes"], "bias": half[:, 0] * numbers["bias"]}


def _put(module: nn.Module, numbers: dict[str, Any]) -> None:
    device = next(module.parameters()).device
    for name, value in numbers.items():
        tensor = torch.tensor(np.asarray(value), dtype=torch.float32, device=device).contiguous()
        setattr(module, name, nn.Parameter(tensor))
