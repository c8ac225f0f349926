"""Classic classifiers on frozen features: scikit-learn's own predictions, from tensors, after saving and loading."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.svm import SVC, LinearSVC
from small_runs import class_recipe, label_records, write_jsonl

from luthier.core.component import build
from luthier.core.contracts import Row
from luthier.core.errors import DataError, ModelError, RecipeError
from luthier.core.recipe import Recipe
from luthier.functional.packing import pack
from luthier.models.attention import hidden_states
from luthier.models.classic import head_of
from luthier.models.classic_solve import FOLDS, solve
from luthier.models.load import load_model
from luthier.models.roles import role_of
from luthier.pipeline import Run


def same_kernel(kind: str, machine: Any, x: Any) -> Any:
    """The machine with the kernel of all rows, also where some are held out."""
    return machine.set_params(gamma=1 / (x.shape[1] * x.var())) if kind == "rbf_svm" else machine


PEERS: dict[str, Any] = {
    "logistic": lambda c: LogisticRegression(C=c, max_iter=2000),
    "linear_svm": lambda c: LinearSVC(C=c, max_iter=5000, random_state=0),
    "rbf_svm": lambda c: SVC(C=c, break_ties=True),
}


def drawn(classes: int, count: int = 90) -> tuple[Any, Any, Any, Any]:
    """Features of rows, their classes, their weights, and features of other rows."""
    draw = np.random.default_rng(classes)
    labels = draw.integers(0, classes, count)
    x = draw.normal(size=(count, 6)) + 1.2 * np.eye(classes, 6)[labels]
    return x, labels, draw.choice([0.5, 2.0], count), draw.normal(size=(200, 6))


def said(head: Any, features: Any) -> Any:
    with torch.no_grad():
        return head(torch.tensor(features, dtype=torch.float32)).double()


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("kind", PEERS)
def test_a_head_predicts_as_scikit_learn_does(kind, classes):
    x, labels, weights, new = drawn(classes)
    peer = PEERS[kind](3.0).fit(x, labels, sample_weight=weights)
    head = head_of(kind, 6, classes, several=False, calibrate=False)
    solve(head, kind, x, labels, weights, 3.0)
    logits = said(head, new)
    assert logits.argmax(-1).tolist() == peer.predict(new).tolist()
    if kind == "logistic":
        np.testing.assert_allclose(logits.softmax(-1).numpy(), peer.predict_proba(new), atol=1e-5)
    else:
        distance = logits.numpy() if classes > 2 else (logits[:, 1] - logits[:, 0]).numpy()
        np.testing.assert_allclose(distance, peer.decision_function(new), atol=2e-5)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["linear_svm", "rbf_svm"])
def test_calibrated_probabilities_are_those_of_scikit_learn(kind, classes):
    x, labels, weights, new = drawn(classes)
    peer = CalibratedClassifierCV(same_kernel(kind, PEERS[kind](3.0), x), cv=FOLDS, ensemble=False)
    peer.fit(x, labels, sample_weight=weights)
    head = head_of(kind, 6, classes, several=False, calibrate=True)
    solve(head, kind, x, labels, weights, 3.0)
    np.testing.assert_allclose(said(head, new).softmax(-1).numpy(), peer.predict_proba(new), atol=2e-5)


@pytest.mark.parametrize("calibrate", [False, True])
@pytest.mark.parametrize("kind", PEERS)
def test_of_several_classes_each_is_told_from_the_rest(kind, calibrate):
    """A binary machine of scikit-learn for each class; one that every row has is as likely as that."""
    if kind == "logistic" and calibrate:
        return
    x, labels, weights, new = drawn(3)
    several = np.eye(3)[labels]
    several[::4, 0] = 1.0
    several = np.hstack([several, np.ones((len(x), 1))])
    head = head_of(kind, 6, 4, several=True, calibrate=calibrate)
    solve(head, kind, x, several, weights, 3.0, list("abcd"))
    logits = said(head, new)
    for number in range(3):
        peer = same_kernel(kind, PEERS[kind](3.0), x)
        peer = CalibratedClassifierCV(peer, cv=FOLDS, ensemble=False) if calibrate else peer
        peer.fit(x, several[:, number], sample_weight=weights)
        found = logits[:, number].sigmoid().numpy()
        if calibrate or kind == "logistic":
            np.testing.assert_allclose(found, peer.predict_proba(new)[:, 1], atol=2e-5)
        else:
            np.testing.assert_allclose(logits[:, number].numpy(), peer.decision_function(new), atol=2e-5)
    np.testing.assert_allclose(logits[:, 3].sigmoid().numpy(), 90.5 / 91, atol=1e-6)


def test_centroids_are_the_nearest_means(monkeypatch):
    """As scikit-learn's, without it; of unit means the softmax is that of scaled cosines; weights count as rows do."""
    x, labels, _, new = drawn(3)
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "sklearn.svm", None)
        head = head_of("centroid", 6, 3, several=False, calibrate=False)
        solve(head, "centroid", x, labels, np.ones(90), 1.0)
    assert said(head, new).argmax(-1).tolist() == NearestCentroid().fit(x, labels).predict(new).tolist()

    twice = np.concatenate([x, x[:9]]), np.concatenate([labels, labels[:9]]), np.ones(99)
    other = head_of("centroid", 6, 3, several=False, calibrate=False)
    solve(other, "centroid", *twice, 7.0, normalize=True)
    solve(head, "centroid", x, labels, np.where(np.arange(90) < 9, 2.0, 1.0), 7.0, normalize=True)
    torch.testing.assert_close(said(head, new), said(other, new))
    means = np.stack([twice[0][twice[1] == number].mean(0) for number in range(3)])
    cosines = torch.tensor(new @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T)
    torch.testing.assert_close(said(head, new).softmax(-1), (7 * cosines).softmax(-1), atol=1e-5, rtol=1e-5)


def test_centroids_of_several_classes_hold_rows_with_a_class_against_those_without():
    x, labels, weights, new = drawn(3)
    head = head_of("centroid", 6, 3, several=True, calibrate=False)
    solve(head, "centroid", x, np.eye(3)[labels], weights, 1.0)
    for number in range(3):
        peer = NearestCentroid()
        repeated = np.repeat(np.arange(90), (2 * weights).astype(int))  # weights are 0.5 and 2
        peer.fit(x[repeated], labels[repeated] == number)
        assert ((said(head, new)[:, number] > 0).numpy() == peer.predict(new)).all()


def test_a_class_of_a_single_row_cannot_be_calibrated():
    x, labels, weights, _ = drawn(3)
    labels[labels == 2] = 1
    labels[5] = 2
    head = head_of("linear_svm", 6, 3, several=False, calibrate=True)
    with pytest.raises(DataError, match="the class 'peg' has a single row"):
        solve(head, "linear_svm", x, labels, weights, 1.0, ["bow", "string", "peg"])


@pytest.mark.parametrize("absent", [1, 3])
def test_a_class_without_rows_has_no_chance_or_is_refused(absent):
    """All its rows may have been too long; the other classes keep their own places."""
    x, labels, weights, new = drawn(4)
    there = labels != absent
    rest = [number for number in range(4) if number != absent]
    for kind in ("centroid", "logistic", "linear_svm"):
        head = head_of(kind, 6, 4, several=False, calibrate=False)
        solve(head, kind, x[there], labels[there], weights[there], 3.0, list("abcd"), normalize=True)
        small = head_of(kind, 6, 3, several=False, calibrate=False)
        fewer = np.searchsorted(rest, labels[there])
        solve(small, kind, x[there], fewer, weights[there], 3.0, list("abc"), normalize=True)
        assert said(head, new).shape == (200, 4)
        assert said(head, new).argmax(-1).tolist() == [rest[number] for number in said(small, new).argmax(-1)]
    for kind, calibrate in (("rbf_svm", False), ("linear_svm", True)):
        head = head_of(kind, 6, 4, several=False, calibrate=calibrate)
        with pytest.raises(DataError, match=f"no row of the class '{'abcd'[absent]}'"):
            solve(head, kind, x[there], labels[there], weights[there], 3.0, list("abcd"))


def rows(count: int = 9) -> list[Row]:
    draw = np.random.default_rng(3)
    made = []
    for number in range(count):
        label = number % 3
        ids = draw.integers(4, 400, 5 + number % 4)
        ids[1] = 10 + label  # what tells the class
        fields = {"label": np.asarray(label)}
        made.append(Row(f"r{number}", ids, np.zeros(len(ids), dtype=np.bool_), fields=fields))
    return made


@pytest.mark.parametrize("layer", [None, 1])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_features_are_those_of_the_layer(bert_folder, layer, pooling):
    """What transformers gives as hidden states of a layer, pooled by hand, through scikit-learn's probabilities."""
    adaptation: Any = build("adaptations", {"classic": {"layer": layer, "pooling": pooling, "c": 50.0}})
    loaded = load_model(str(bert_folder), "sequence_classification", labels=["a", "b", "c"])
    x = []
    for row in rows():
        with torch.no_grad():
            ids = torch.from_numpy(row.ids)[None]
            states = loaded.model.base_model(input_ids=ids, output_hidden_states=True).hidden_states[layer or -1][0]
        found = states.mean(0) if pooling == "mean" else states[0]
        x.append(torch.nn.functional.normalize(found, dim=0).double().numpy())
    wanted = LogisticRegression(C=50.0, max_iter=2000).fit(np.stack(x), [n % 3 for n in range(9)]).predict_proba(x)
    model = adaptation.apply(loaded.model)
    role = role_of(model, 0)
    assert role.packed
    adaptation.solve(role, [pack(rows()[:4]), pack(rows()[4:])])
    with torch.no_grad():
        packed = role.class_logits(pack(rows()))
        alone = torch.cat([model(input_ids=torch.from_numpy(row.ids)[None]).logits for row in rows()])
    np.testing.assert_allclose(packed.softmax(-1).numpy(), wanted, atol=2e-4)
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-4)
    assert hidden_states(model, input_ids=torch.from_numpy(rows()[0].ids)[None]).shape[-1] == 32


def test_what_names_no_class_is_refused(bert_folder, llama_folder):
    adaptation: Any = build("adaptations", "classic")
    for folder, task, more in (
        (llama_folder, "causal_lm", {}),
        (bert_folder, "sequence_score", {"labels": ["reward"]}),
    ):
        with pytest.raises(ModelError, match="names no class of a text"):
            adaptation.apply(load_model(str(folder), task, **more).model)
    adaptation = build("adaptations", {"classic": {"layer": 3}})
    with pytest.raises(ModelError, match="the model has 2 blocks"):
        adaptation.apply(load_model(str(bert_folder), "sequence_classification", labels=["a", "b"]).model)


def test_a_recipe_says_what_classic_does_not_read(bert_folder):
    found = refusals(bert_folder, {"classify": {"label_smoothing": 0.1}}, {"classic": {"calibrate": True}})
    assert "label_smoothing is read by nothing" in found
    assert "calibrate is for SVMs, and the kind is logistic" in found
    found = refusals(bert_folder, {"self_train": {"teacher": "runs/t", "weight": 1.0}}, "classic")
    assert "weight is read by nothing: classic counts a text that the teacher named as it does a labeled row" in found
    assert "weight" not in refusals(bert_folder, {"self_train": {"teacher": "runs/t"}}, "classic")
    found = refusals(bert_folder, "reward", "classic", penalties=["l2_sp"])
    for told in ("the objective is reward", "epochs is read by nothing", "penalties is read by nothing"):
        assert told in found


def refusals(folder: Path, objective: Any, adaptation: Any, **more: Any) -> str:
    changes: dict[str, Any] = {"adaptation": adaptation, "objective": objective, **more}
    with pytest.raises(RecipeError) as caught:
        Recipe.of(class_recipe(folder, Path("rows.jsonl"), **changes))
    return " ".join(problem.found for problem in caught.value.problems)


@pytest.mark.parametrize("several", [False, True])
def test_a_run_keeps_its_classifier_through_export(bert_folder, tmp_path, several):
    from luthier.cli.main import main
    from luthier.cli.talk import classify

    records = label_records(48)
    if several:
        for number, record in enumerate(records):
            record |= {"label": [record["label"], "even"][: 1 + (number % 2 == 0)]}
    data = write_jsonl(tmp_path / "rows.jsonl", records)
    kind = {"kind": "rbf_svm", "calibrate": True} if several else {"kind": "logistic"}
    recipe = class_recipe(bert_folder, data, adaptation={"classic": kind}, checks=["classification", "parity"])
    del recipe["phases"][0]["epochs"]
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(recipe))
    # By the command line, whose progress reads what a step tells.
    with suppress(SystemExit):
        main(["run", str(file), "--out", str(tmp_path / "run")])
    run = Run.of(tmp_path / "run")
    assert run.value("classification.macro_f1") > (0.3 if several else 0.5)
    assert run.value("parity.max_difference", "reloaded") == 0.0
    assert (run.model / "adapter" / "trained.safetensors").is_file()
    found = dict(classify(run.folder, "item 3 is good indeed"))
    assert max(found, key=lambda name: (name != "even", found[name])) == "good"
    assert all(0 <= chance <= 1 for chance in found.values())
