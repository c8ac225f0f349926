"""Features of each word into logistic regression: scikit-learn's own probabilities, of any layer, packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from small_runs import lm_recipe

from luthier.core.component import build
from luthier.core.contracts import Row
from luthier.core.errors import RecipeError
from luthier.core.recipe import Recipe
from luthier.functional.packing import pack
from luthier.models.load import load_model
from luthier.models.roles import role_of

TAGS = ["O", "B-THING", "I-THING"]


def rows(count: int = 9) -> list[Row]:
    """Of each row two words are learned, one of them a thing; no word is I-THING."""
    draw = np.random.default_rng(3)
    made = []
    for number in range(count):
        ids = draw.integers(20, 400, 6 + number % 4)
        marks, targets = np.zeros(len(ids), dtype=np.bool_), np.full(len(ids), -1)
        marks[[1, 3]], targets[1], targets[3] = True, number % 2, 0
        ids[1] = 10 + number % 2
        made.append(Row(f"r{number}", ids, marks, weight=1.0 + number % 2, targets=targets))
    return made


@pytest.mark.parametrize("layer", [None, 1])
def test_a_tag_is_told_from_its_own_words_features(bert_folder, layer):
    adaptation: Any = build("adaptations", {"classic": {"layer": layer, "c": 50.0}})
    loaded = load_model(str(bert_folder), "token_classification", labels=TAGS)
    x, y, weights = [], [], []
    for row in rows():
        with torch.no_grad():
            ids = torch.from_numpy(row.ids)[None]
            states = loaded.model.base_model(input_ids=ids, output_hidden_states=True).hidden_states[layer or -1][0]
        x.append(torch.nn.functional.normalize(states[torch.from_numpy(row.supervised)], dim=-1).double().numpy())
        y += row.targets[row.supervised].tolist()
        weights += [row.weight] * 2
    features = np.concatenate(x)
    peer = LogisticRegression(C=50.0, max_iter=2000).fit(features, y, sample_weight=weights)
    wanted = peer.predict_proba(features)
    model = adaptation.apply(loaded.model)
    role = role_of(model, 0)
    assert role.packed
    adaptation.solve(role, [pack(rows()[:4]), pack(rows()[4:])])
    with torch.no_grad():
        packed = role.token_logits(pack(rows()))
        alone = [model(input_ids=torch.from_numpy(row.ids)[None]).logits[0, row.supervised] for row in rows()]
    chances = packed.softmax(-1).numpy()
    np.testing.assert_allclose(chances[:, :2], wanted, atol=2e-4)
    assert chances[:, 2].max() == 0.0, "a tag that no word has is given no chance"
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-4, atol=1e-4)


def test_a_recipe_says_what_does_not_go_with_words(bert_folder, tmp_path):
    told: dict[str, Any] = {"kind": "rbf_svm", "pooling": "cls", "calibrate": True}
    recipe = lm_recipe(bert_folder, tmp_path / "rows.conll", objective="tag", adaptation={"classic": told})
    del recipe["phases"][0]["epochs"]
    with pytest.raises(RecipeError) as caught:
        Recipe.of(recipe)
    found = " ".join(problem.found for problem in caught.value.problems)
    for said in ("rbf_svm is for classes of texts", "pooling is read by nothing", "calibrate is read by nothing"):
        assert said in found
