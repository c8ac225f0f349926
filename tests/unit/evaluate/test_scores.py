"""Scores on disk: every number comes back bit for bit, and damaged files are named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.core.errors import DataError
from luthier.core.evidence import Confusion, Sample, Scores
from luthier.evaluate.scores import read_scores, write_scores


@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=20))
def test_numbers_come_back_bit_for_bit(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("scores")
    values = np.array(rows, dtype=np.float64).reshape(len(rows), 2)
    names = tuple(f"r{i}" for i in range(len(rows)))
    write_scores(folder, "perplexity", "tuned", Scores(names, {"x": values}))
    back = read_scores(folder, "perplexity", "tuned").values["x"]
    assert back.shape == values.shape
    same = (back.view(np.int64) == values.view(np.int64)) | (np.isnan(back) & np.isnan(values))
    assert same.all()


def test_everything_comes_back(tmp_path):
    given = Scores(
        rows=("a", "b"),
        values={"x": np.array([[0.1], [1e300]]), "empty": np.zeros((2, 0))},
        clusters=("k", "k"),
        samples=(Sample("a", "Wie geht’s?", "gut", "<b>"),),
        note="float32 on cpu",
        items=("00", "11"),
        confusion=Confusion(("no", "yes"), ((3, 1), (0, 2))),
    )
    path = write_scores(tmp_path / "scores", "text_match", "base", given)
    assert path == tmp_path / "scores" / "text_match.base.json"
    back = read_scores(tmp_path / "scores", "text_match", "base")
    assert {name: value.tolist() for name, value in back.values.items()} == {"x": [[0.1], [1e300]], "empty": [[], []]}
    for name in ("rows", "clusters", "samples", "note", "items", "confusion"):
        assert getattr(back, name) == getattr(given, name)


def test_a_file_is_strict_json(tmp_path):
    path = write_scores(tmp_path, "c", "tuned", Scores(("a",), {"x": np.array([[np.nan, -np.inf, -0.0, 3.0]])}))
    value = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert value["values"]["x"] == [["nan"], ["-inf"], [-0.0], [3]]


@pytest.mark.parametrize("content", ["{", "[]", '{"rows": []}', None])
def test_damaged_files_are_named(tmp_path, content):
    if content is not None:
        (tmp_path / "c.tuned.json").write_text(content)
    with pytest.raises(DataError, match=r"c\.tuned\.json: the scores cannot be read"):
        read_scores(tmp_path, "c", "tuned")
