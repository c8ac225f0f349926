"""Tables without a line of column names: told, refused with what to do, and read where the recipe says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from luthier.core.errors import DataError
from luthier.core.recipe import Source
from luthier.data.read import Read, read
from luthier.data.records import records
from luthier.data.row import Record

LABELED = "I liked it,good\nNot for me,bad\nGreat,good\nAwful,bad\nMore of this,good\n"


def one(folder: Path, content: str, name: str = "rows.csv", **source: object) -> Read:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return read([Source(path=str(path), **source)])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LABELED, "'good' stands in 2 rows below, in the same column"),
        ("Is it late?,1\nIs it early?,0\n", "'1' is a number"),
        ("price,2.50\nrent,900\n", "'2.50' is a number"),
        (
            "The old man went to the sea.\nHe was there for three days.\n",
            "'The old man went to the sea.' is a sentence",
        ),
    ],
)
def test_a_first_line_that_is_a_row_is_not_lost_as_names(tmp_path: Path, content: str, reason: str) -> None:
    with pytest.raises(DataError) as caught:
        one(tmp_path, content)
    (problem,) = caught.value.problems
    assert problem.found.endswith(reason)
    assert problem.where == f"{tmp_path / 'rows.csv'}:1"
    assert "header: false" in str(problem.remedy)
    assert "column_1" in str(problem.remedy)


@pytest.mark.parametrize(
    "content",
    [
        "text,label\ngood,label\nbad,label\nfine,label\n",  # keys of a format name columns, whatever stands below
        "ID,Text,Label\n1,good,1\n2,bad,0\n",
        "0,1\ngood,x\nbad,y\n",  # as pandas writes a table without names
        "review,verdict\nI liked it,good\nNot for me,bad\nreview,verdict\nreview,verdict\n",  # joined files
        "What did you like?,mark\nthe food,a\nthe view,b\n",
    ],
)
def test_a_first_line_that_names_columns_does(content: str) -> None:
    found = list(records(content.encode(), "rows.csv"))
    good = [row for row in found if isinstance(row, Record)]
    assert list(good[0].value) == content.partition("\n")[0].split(",")


def test_a_column_that_the_recipe_asks_for_is_a_name(tmp_path: Path) -> None:
    survey = "How satisfied are you with us?,mark\nVery much so,a\nNot at all,b\n"
    with pytest.raises(DataError, match="is a sentence"):
        one(tmp_path, survey)
    result = one(tmp_path, survey, columns={"text": "How satisfied are you with us?", "label": "mark"})
    assert [example.target for example in result.examples] == ["a", "b"]
    assert one(tmp_path, survey, header=True, format="text", columns={"text": "mark"}).examples[0].text() == "a"


def test_every_line_is_a_row_where_the_recipe_says_so(tmp_path: Path) -> None:
    result = one(tmp_path, LABELED, header=False, columns={"text": "column_1", "label": "column_2"})
    assert [example.target for example in result.examples] == ["good", "bad", "good", "bad", "good"]
    assert [example.origin.row for example in result.examples] == [1, 2, 3, 4, 5]
    assert result.examples[0].text() == "I liked it"
    tabs = LABELED.replace(",", "\t")
    assert one(tmp_path, tabs, "rows.tsv", header=False, columns={"text": "column_1", "label": "column_2"}).examples
    with pytest.raises(DataError, match="wrong number of cells: 3 where the first line has 2"):
        one(tmp_path, LABELED + "a,b,c\n", header=False, columns={"text": "column_1", "label": "column_2"})


def test_files_of_an_examination_without_header(data_file: Callable[[str], Path]) -> None:
    folder = data_file("tasks/mmlu")
    files = sorted(folder.rglob("*_dev.csv"))
    told = 0
    for file in files:
        try:
            list(records(file.read_bytes(), file.name))
        except DataError:
            told += 1
    assert len(files) > 50
    assert told >= 0.9 * len(files)  # five rows each: of a few nothing in the first line tells
