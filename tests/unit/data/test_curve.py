"""Learning curves: nested rows, the law that made them found again, and what it says held against more rows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from luthier.core.errors import DataError
from luthier.core.example import Example, Origin
from luthier.data import curve as curves
from luthier.data.curve import LearningCurve, learning_curve
from luthier.data.strata import Strata
from luthier.functional.power_law import fit_power_laws, resampled_errors
from luthier.report.learning import curve_page, rows_of

WORDS = {name: [f"{name}{n}" for n in range(60)] for name in ("string", "brass", "key")}


def rows(count: int, seed: int = 1) -> list[Example]:
    """Texts of three classes: two of eight words are of the class, so that each row teaches some of its words."""
    draw = random.Random(seed)
    found = []
    for number in range(count):
        name = draw.choice(list(WORDS))
        words = [draw.choice(WORDS[name]) for _ in range(2)] + [f"word{draw.randrange(300)}" for _ in range(6)]
        found.append(Example(f"{seed}:{number}", {"text": " ".join(words)}, Origin("r", number + 1), name))
    return found


@pytest.fixture(scope="module", autouse=True)
def short_fits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "_STEPS", 200)
        yield


@pytest.fixture(scope="module")
def curve() -> LearningCurve:
    return learning_curve(rows(480), rows(300, 2), encoder=None, draws=3)


@pytest.mark.parametrize(("floor", "scale", "rate"), [(0.05, 2.0, 0.5), (0.0, 1.5, 0.35), (0.2, 9.0, 1.0)])
def test_a_law_is_found_again(floor: float, scale: float, rate: float) -> None:
    sizes = [50, 100, 200, 400, 800, 1600]
    errors = np.array([[floor + scale * size**-rate for size in sizes]] * 2)
    laws = fit_power_laws(sizes, errors)
    for found in zip(laws.floor, laws.scale, laws.rate, strict=True):
        assert found == pytest.approx((floor, scale, rate), rel=0.02, abs=2e-3)
    assert laws.at(6400) == pytest.approx([floor + scale * 6400**-rate] * 2, rel=1e-3)


def test_the_law_is_the_best_of_a_fine_search() -> None:
    sizes = np.array([40.0, 80.0, 160.0, 320.0])
    errors = np.array([0.41, 0.33, 0.24, 0.21])
    laws = fit_power_laws([40, 80, 160, 320], errors[None])

    def deviation(floor: float, scale: float, rate: float) -> float:
        return float((((floor + scale * sizes**-rate) / errors - 1) ** 2).sum())

    found = deviation(float(laws.floor[0]), float(laws.scale[0]), float(laws.rate[0]))
    best = min(
        deviation(floor, scale, rate)
        for floor in np.linspace(0, 0.2, 41)
        for rate in np.linspace(0.05, 2, 40)
        for scale in np.linspace(0.2, 2, 10) * 0.3 * 80**rate
    )
    assert found <= best + 1e-6


def test_errors_that_rise_or_stand_still_give_no_law_below_zero() -> None:
    for errors in ([0.1, 0.2, 0.3, 0.4], [0.25] * 4, [0.4, 0.1, 0.02, 0.0]):
        law = fit_power_laws([10, 20, 40, 80], np.array([errors]))
        assert law.floor[0] >= 0
        assert law.scale[0] >= 0
        assert 0 <= law.at(160)[0] <= 0.4
        assert law.scale[0] == 0 or errors[0] > errors[-1]


def test_resamples_keep_a_draws_sizes_together() -> None:
    right = np.zeros((2, 3, 50), bool)
    right[1] = True  # the second draw got all right at every size
    found = resampled_errors(right, 300, seed=1)
    assert np.allclose(found, found[:, :1], atol=1e-6)
    assert {abs(round(float(value), 5)) for value in found[:, 0]} == {0.0, 1.0}
    right = np.broadcast_to(np.arange(400) < 100, (1, 1, 400))
    spread = resampled_errors(right, 500, seed=1)[:, 0]
    assert spread.mean() == pytest.approx(0.75, abs=0.01)
    assert spread.std() == pytest.approx(np.sqrt(0.75 * 0.25 / 400), rel=0.15)


def test_more_rows_teach_more_and_the_law_knows_how_much(curve: LearningCurve) -> None:
    assert curve.sizes[0] == 10
    assert curve.sizes[-1] == 480
    assert len(curve.sizes) == 7
    assert curve.means[0] - curve.means[-1] > 0.2
    twice = learning_curve(rows(960), rows(300, 2), encoder=None, draws=2)
    assert curve.more[0].rows == 960
    assert curve.more[0].low - 0.02 <= float(twice.means[-1]) <= curve.more[0].high + 0.02
    assert curve.more[1].error < curve.more[0].error < float(curve.means[-1])
    assert "960 rows, twice as many" in curve.verdict()


def test_the_same_rows_give_the_same_curve(curve: LearningCurve) -> None:
    again = learning_curve(rows(480), rows(300, 2), encoder=None, draws=3)
    assert (again.errors == curve.errors).all()
    assert (again.more, again.check) == (curve.more, curve.check)


def test_beginnings_of_an_order_have_the_classes_in_their_shares() -> None:
    from luthier.data.curve import _order

    some = [row for row in rows(600) if row.target != "key" or int(row.id[2:]) % 4 == 0]
    strata = Strata.of(some, ("label",), "test")
    labels, names = strata.of_row.astype(np.int64), [row.id for row in some]
    for draw in range(3):
        order = _order(labels, names, 1, draw)
        assert sorted(order.tolist()) == list(range(len(some)))
        shares = strata.counts / len(some)
        for size in (20, 60, 200):
            counts = np.bincount(strata.of_row[order[:size]], minlength=3)
            assert np.abs(counts - shares * size).max() <= 2
    assert (_order(labels, names, 1, 0) != _order(labels, names, 1, 1)).any()


def test_a_law_that_fails_is_said_to(curve: LearningCurve) -> None:
    off = replace(curve, check=replace(curve.check, gain_low=0.01, gain_high=0.02))
    assert not off.holds
    assert "do not trust" in off.verdict()
    flat = replace(curve, check=replace(curve.check, gain_low=-1.0, gain_high=1.0))
    assert flat.holds
    flat = replace(flat, more=(replace(flat.more[0], gain_low=-0.01), flat.more[1]))
    assert "may bring nothing" in flat.verdict()


def test_a_gain_is_surer_than_the_errors_it_lies_between(curve: LearningCurve) -> None:
    for one in curve.more:
        assert one.low <= one.error <= one.high
        assert one.gain_low <= one.gain <= one.gain_high
        assert one.gain == pytest.approx(float(curve.means[-1]) - one.error)
        assert one.gain_high - one.gain_low < one.high - one.low


def test_rows_without_a_class_are_no_class(curve: LearningCurve) -> None:
    bare = [replace(row, id=f"bare:{row.id}", target=None) for row in rows(40, 5)]
    again = learning_curve([*rows(480), *bare], [*rows(300, 2), *bare], encoder=None, draws=3)
    assert (again.errors == curve.errors).all()
    assert (again.classes, again.measured) == (3, 300)


def test_what_gives_no_curve_is_told() -> None:
    few = rows(30)
    with pytest.raises(DataError, match="too few for a curve"):
        learning_curve(few, few, encoder=None)
    with pytest.raises(DataError, match="1 classes"):
        learning_curve([replace(row, target="one") for row in rows(90)], few, encoder=None)
    with pytest.raises(DataError, match="0 rows of 0 classes"):
        learning_curve([replace(row, target=None) for row in rows(90)], few, encoder=None)
    with pytest.raises(DataError, match="0 to measure on"):
        learning_curve(rows(90), [], encoder=None)


def test_a_page_shows_what_was_measured_and_foretold(curve: LearningCurve) -> None:
    page = curve_page(curve, "<letters>.jsonl").decode()
    assert "&lt;letters&gt;.jsonl" in page
    assert "<letters>" not in page
    assert page.count('<circle class="validation"') == 2 * len(curve.sizes) + 1  # one in the legend
    assert "foretold" in page
    assert curve.verdict() in page
    assert "http" not in page.replace("http-equiv", "")
    table = rows_of(curve)
    assert [row["rows"] for row in table] == [*curve.sizes, 960, 1920]
    assert all(row["low"] <= row["law"] <= row["high"] for row in table[-2:])


def test_the_command_writes_a_page_and_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    import csv

    from luthier.cli.main import main

    monkeypatch.chdir(tmp_path)
    with Path("letters.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows((row.text(), row.target) for row in rows(300))
    main(["data", "curve", "letters.csv", "--encoder", "none", "--draws", "2"])
    said = capsys.readouterr().out
    assert "foretold" in said
    assert "letters.curve.html" in said
    verdict = said.splitlines()[-2]
    assert verdict in Path("letters.curve.html").read_text(encoding="utf-8")
