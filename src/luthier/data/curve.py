"""What more rows would bring: a learning curve over nested subsets of the rows, and the power law that continues it.

A softmax regression on the vectors of a frozen encoder stands for the training to come: it takes seconds, and tells
whether rows are what is missing. Each draw puts the rows in an order in which classes keep their shares, and fits the
first n for each size n; measured is on rows that no subset holds. How long is fitted is chosen once for all sizes, on
quarters of the subsets. Few rows follow no power law yet (Hestness et al. 2017), so the law is that of the last four
sizes; its interval comes from drawing draws and measured rows anew, and from fitting three to five sizes. The last size
is foretold from those before as well and stands beside what was measured there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError
from ..core.example import Example
from ..functional.power_law import PowerLaws, fit_power_laws, resampled_errors
from ..functional.softmax import fitted
from .strata import Strata, drawn, stratum
from .vectors import vectors_of

__all__ = ["Foretold", "LearningCurve", "curve_of", "learning_curve"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]

_EPOCHS, _STEPS, _BATCH = 20, 1500, 64
"""Each fit takes so many epochs, and so many steps at least: few rows would not be learned in as few epochs."""
_RATES = (0.3, 1.0, 4.0, 12.0, 40.0)
"""From far from converged, which is best for two classes that are hard to tell, to what a converged fit gives."""
_LEAST = 10
_WHERE = "luthier data curve"
_RESAMPLES = 1000
_USED, _USABLE = 4, (3, 4, 5)
"""Sizes that the law is fitted to, the last ones; and how many of them its resamples draw from."""


@dataclass(frozen=True, slots=True)
class Foretold:
    """The error that the law gives for so many rows, with its 95 % interval.

    gain: by how much it is below the error that was measured with all rows, with the interval of the difference, which
    is narrower: both go by the same rows.
    """

    rows: int
    error: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float


@dataclass(frozen=True)
class LearningCurve:
    """Errors (shares of rows that are got wrong) by the number of rows learned.

    sizes: [k]; errors: [draws, k]; law: the one that continues them; more: it at twice and four times the rows;
    check: the law of all sizes but the last, at the last. classes, measured: how many classes, and rows measured on.
    encoder: what gave the vectors; None: hashed words. rate: of the first step of each fit, the best of a few.
    """

    sizes: tuple[int, ...]
    errors: Floats
    law: PowerLaws
    more: tuple[Foretold, ...]
    check: Foretold
    classes: int
    measured: int
    encoder: str | None
    rate: float

    @property
    def draws(self) -> int:
        """How many times the rows were drawn."""
        return len(self.errors)

    @property
    def lawful(self) -> tuple[int, ...]:
        """The sizes that the law was fitted to."""
        return self.sizes[-_USED:]

    @property
    def means(self) -> Floats:
        """[k] the mean error over draws."""
        return np.asarray(self.errors.mean(axis=0))

    @property
    def holds(self) -> bool:
        """Whether the law, without the last size, foretold what was measured there within its interval."""
        return self.check.gain_low <= 0 <= self.check.gain_high

    def verdict(self) -> str:
        """What more rows would bring, in one sentence."""
        twice = self.more[0]
        gain = f"{100 * twice.gain:.1f} points ({100 * twice.gain_low:.1f} to {100 * twice.gain_high:.1f}) of accuracy"
        if not self.holds:
            return (
                f"The law did not foretell the last size ({1 - self.check.error:.3f} for {1 - self.means[-1]:.3f}): "
                f"do not trust that {twice.rows:,} rows, twice as many, would bring {gain}."
            )
        if twice.gain_low <= 0:
            return f"More rows may bring nothing: {twice.rows:,} rows, twice as many, {gain}."
        return f"{twice.rows:,} rows, twice as many, would bring {gain}."


def learning_curve(
    train: Sequence[Example],
    test: Sequence[Example],
    *,
    encoder: str | None = "embedded:minilm",
    sizes: int = 7,
    draws: int = 5,
    seed: int = 1,
) -> LearningCurve:
    """The curve of rows with classes. sizes: how many, from few rows to all by a constant factor.

    encoder: what `model:` in a recipe may name; None: hashed words.
    Errors: DataError where rows have no class, there are fewer than two, or too few rows for a curve; as load_embedder.
    """
    learned, asked = ([row for row in rows if row.target is not None] for rows in (train, test))
    strata = Strata.of(learned, ("label",), _WHERE) if learned else None
    if strata is None or len(strata.names) < 2 or not asked:
        raise DataError(
            f"there are {len(learned)} rows of {len(strata.names) if strata else 0} classes to learn, "
            f"{len(asked)} to measure on",
            where=_WHERE,
            expected="labeled text of two classes or more",
        )
    numbers = {name: number for number, name in enumerate(strata.names)}
    # A class that was never learned is got wrong, as it would be.
    wanted = np.array([numbers.get(stratum(row, ("label",)), -1) for row in asked], dtype=np.int64)
    found = curve_of(
        vectors_of(learned, len(learned), encoder),
        strata.of_row.astype(np.int64),
        [row.id for row in learned],
        (vectors_of(asked, len(asked), encoder), wanted),
        sizes=sizes,
        draws=draws,
        seed=seed,
    )
    return replace(found, encoder=encoder)


def curve_of(
    vectors: Vectors,
    labels: Ints,
    names: Sequence[str],
    test: tuple[Vectors, Ints],
    *,
    sizes: int = 7,
    draws: int = 5,
    seed: int = 1,
) -> LearningCurve:
    """The curve of unit vectors [n, width] with classes [n] from 0, and names that the draws go by.

    test: vectors and classes of the rows that are measured on. Errors: DataError for too few rows.
    """
    assert sizes >= 6
    assert draws >= 2
    classes = int(labels.max()) + 1
    steps = _sizes(len(labels), classes, sizes)
    orders = [_order(labels, names, seed, draw) for draw in range(draws)]
    rate = _rate(vectors, labels, steps, orders[0], seed)
    right = np.zeros((draws, len(steps), len(test[1])), bool)
    for draw, order in enumerate(orders):
        for place, size in enumerate(steps):
            weights, biases = _fit(vectors, labels, order[:size], seed + draw, rate)
            right[draw, place] = (test[0] @ weights.T + biases).argmax(axis=1) == test[1]
    return _told(steps, right, classes, rate, seed)


def _fit(vectors: Vectors, labels: Ints, some: Ints, seed: int, rate: float) -> tuple[Vectors, Vectors]:
    epochs = max(_EPOCHS, -(-_STEPS * _BATCH // len(some)))
    return fitted(vectors[some], labels[some], int(labels.max()) + 1, epochs, seed, rate)


def _rate(vectors: Vectors, labels: Ints, steps: Sequence[int], order: Ints, seed: int) -> float:
    """The rate that gets most rows right: the last quarter of each subset of a draw, by a fit to the rest of it."""
    found = []
    for rate in _RATES:
        right = 0
        for size in steps:
            learned, asked = np.split(order[:size], [size - size // 4])
            weights, biases = _fit(vectors, labels, learned, seed, rate)
            right += int(((vectors[asked] @ weights.T + biases).argmax(axis=1) == labels[asked]).sum())
        found.append(right)
    return _RATES[int(np.argmax(found))]


def _sizes(rows: int, classes: int, count: int) -> tuple[int, ...]:
    least = max(_LEAST, classes, rows // 64)
    found = tuple(sorted({round(size) for size in np.geomspace(least, rows, count).tolist()})) if rows > least else ()
    if len(found) < 6 or rows < 4 * least:
        raise DataError(
            f"{rows} rows of {classes} classes are too few for a curve",
            where=_WHERE,
            expected=f"at least {4 * least} rows, besides those that are measured on",
            remedy="label some more first: so few rows tell nothing of their number",
        )
    return found


def _order(labels: Ints, names: Sequence[str], seed: int, draw: int) -> Ints:
    """The rows drawn into an order of which every beginning has classes in about their shares."""
    chances = np.array([drawn(seed, f"{draw} {name}") for name in names])
    place = np.empty(len(labels))
    for number, count in enumerate(np.bincount(labels).tolist()):
        own = np.flatnonzero(labels == number)
        if count:
            place[own[np.argsort(chances[own])]] = (np.arange(count) + chances[own].mean()) / count
    return np.lexsort((chances, place))


def _told(steps: tuple[int, ...], right: NDArray[np.bool_], classes: int, rate: float, seed: int) -> LearningCurve:
    """The law with its intervals."""
    errors = 1 - right.mean(axis=2)
    again = resampled_errors(right, _RESAMPLES, seed)
    means = errors.mean(axis=0)[None]
    law = fit_power_laws(steps[-_USED:], means[:, -_USED:])
    more = tuple(_foretold(steps, means, again, factor * steps[-1]) for factor in (2, 4))
    check = _foretold(steps, means, again, steps[-1], left_out=1)
    return LearningCurve(steps, errors, law, more, check, classes, right.shape[2], None, rate)


def _foretold(steps: Sequence[int], means: Floats, again: Floats, rows: int, left_out: int = 0) -> Foretold:
    """The law of means [1, k], but the last ones that are left out, at so many rows, beside the last of all.

    Each third of the resamples [m, k] is fitted to another number of sizes.
    """
    last = len(steps) - left_out

    def law(errors: Floats, used: int) -> Floats:
        return fit_power_laws(steps[last - used : last], errors[:, last - used : last]).at(rows)

    error = float(law(means, _USED)[0])
    thirds = [again[number :: len(_USABLE)] for number in range(len(_USABLE))]
    errors = np.concatenate([law(third, used) for third, used in zip(thirds, _USABLE, strict=True)])
    gains = np.concatenate([third[:, -1] for third in thirds]) - errors
    (low, high), (least, most) = (np.quantile(values, (0.025, 0.975)).tolist() for values in (errors, gains))
    return Foretold(rows, error, low, high, float(means[0, -1]) - error, least, most)
