"""The folds of the experiment on questions: by article, and each article is tested once."""

from __future__ import annotations

from typing import Any

from experiments.questions import FOLDS, folds


def test_each_article_is_tested_once_and_never_trained_on_in_its_fold() -> None:
    articles: list[dict[str, Any]] = [{"title": str(number)} for number in range(23)]
    parts = folds(articles)
    assert len(parts) == FOLDS
    assert sorted(int(one["title"]) for _, test in parts for one in test) == list(range(23))
    for train, test in parts:
        assert len(train) + len(test) == 23
        assert not {one["title"] for one in train} & {one["title"] for one in test}
        assert len(test) in (4, 5)
    assert folds(articles) == parts
