"""Classic classifiers on frozen features: scikit-learn's own predictions, from tensors, after saving and loading."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC, LinearSVC
from small_runs import class_recipe, label_records, write_jsonl

from luthier.core.component import build
from luthier.core.contracts import Row
from luthier.core.errors import ModelError, RecipeError
from luthier.core.recipe import Recipe
from luthier.functional.packing import pack
from luthier.models.attention import hidden_states
from luthier.models.classic import LinearHead, RadialHead, solve
from luthier.models.load import load_model
from luthier.models.roles import role_of
from luthier.pipeline import Run

PEERS: dict[str, Any] = {
    "logistic": lambda c: LogisticRegression(C=c, max_iter=2000),
    "linear_svm": lambda c: LinearSVC(C=c, max_iter=5000, random_state=0),
    "rbf_svm": lambda c: SVC(C=c, break_ties=True),
}


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("kind", PEERS)
def test_a_head_predicts_as_scikit_learn_does(kind, classes):
    draw = np.random.default_rng(classes)
    labels = draw.integers(0, classes, 90)
    x = draw.normal(size=(90, 6)) + 1.2 * np.eye(classes, 6)[labels]
    weights = draw.choice([0.5, 2.0], 90)
    peer = PEERS[kind](3.0).fit(x, labels, sample_weight=weights)
    head = (RadialHead if kind == "rbf_svm" else LinearHead)(6, classes)
    solve(head, kind, x, labels.tolist(), weights.tolist(), 3.0)
    new = draw.normal(size=(200, 6))
    with torch.no_grad():
        logits = head(torch.tensor(new, dtype=torch.float32)).double()
    assert logits.argmax(-1).tolist() == peer.predict(new).tolist()
    if kind == "logistic":
        np.testing.assert_allclose(logits.softmax(-1).numpy(), peer.predict_proba(new), atol=1e-5)
    elif classes > 2:
        np.testing.assert_allclose(logits.numpy(), peer.decision_function(new), atol=2e-5)


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


def test_what_has_no_single_class_is_refused(bert_folder, llama_folder):
    adaptation: Any = build("adaptations", "classic")
    for folder, task, more in (
        (llama_folder, "causal_lm", {}),
        (bert_folder, "sequence_score", {"labels": ["reward"]}),
        (bert_folder, "sequence_classification", {"labels": ["a", "b"], "problem": "multi_label_classification"}),
    ):
        with pytest.raises(ModelError, match="names no class of a text"):
            adaptation.apply(load_model(str(folder), task, **more).model)
    adaptation = build("adaptations", {"classic": {"layer": 3}})
    with pytest.raises(ModelError, match="the model has 2 blocks"):
        adaptation.apply(load_model(str(bert_folder), "sequence_classification", labels=["a", "b"]).model)


def test_a_recipe_says_what_classic_does_not_read(bert_folder):
    changes: dict[str, Any] = {"adaptation": "classic", "penalties": ["l2_sp"], "objective": "reward"}
    with pytest.raises(RecipeError) as caught:
        Recipe.of(class_recipe(bert_folder, Path("rows.jsonl"), **changes))
    found = " ".join(problem.found for problem in caught.value.problems)
    for told in ("the objective is reward", "epochs is read by nothing", "penalties is read by nothing"):
        assert told in found


@pytest.mark.parametrize("kind", ["logistic", "rbf_svm"])
def test_a_run_keeps_its_classifier_through_export(bert_folder, tmp_path, kind):
    from luthier.cli.main import main
    from luthier.cli.talk import classify

    data = write_jsonl(tmp_path / "rows.jsonl", label_records(48))
    recipe = class_recipe(
        bert_folder, data, adaptation={"classic": {"kind": kind}}, checks=["classification", "parity"]
    )
    del recipe["phases"][0]["epochs"]
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(recipe))
    # By the command line, whose progress reads what a step tells.
    with suppress(SystemExit):
        main(["run", str(file), "--out", str(tmp_path / "run")])
    run = Run.of(tmp_path / "run")
    assert run.value("classification.accuracy") > 0.5
    assert run.value("parity.max_difference", "reloaded") == 0.0
    assert (run.model / "adapter" / "trained.safetensors").is_file()
    best, chance = classify(run.folder, "item 3 is good indeed")[0]
    assert best == "good"
    assert 0 < chance <= 1
