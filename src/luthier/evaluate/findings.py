"""From scores to findings: each subject's number with its interval, and tuned against base on the same rows.

Intervals are 95 % bootstrap bounds (BCa, 1,000 resamples unless told otherwise), by clusters where the scores name
them. The test of a change: McNemar for hits, sign flips for means, paired bootstrap for everything else. All subjects
and both sides of a change are resampled alike, so that intervals of one check belong together.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..core.errors import DataError
from ..core.evidence import Finding, Measure, Scores
from ..functional.statistics import Resampling, holm, interval, mcnemar, paired_bootstrap, row_mean, sign_flip

__all__ = ["adjust", "aligned", "change", "findings", "level", "resampling_of"]

Floats = NDArray[np.float64]


def findings(
    scores: Mapping[str, Scores], measures: Sequence[Measure], check: str, seed: int, resamples: int = 1000
) -> list[Finding]:
    """The findings of one check: for every measure its subjects, then the change from base to tuned.

    `scores` by subject. p is not adjusted yet: `adjust` does that over the whole run.
    Errors: DataError where two subjects were not measured on the same rows.
    """
    scores = aligned(scores)
    resampling = resampling_of(scores, check, seed, resamples)
    found: list[Finding] = []
    for measure in measures:
        found.extend(
            level(scores, subject, measure, check, resampling)
            for subject in scores
            if (measure.of is None or subject in measure.of) and (measure.against is None or measure.against in scores)
        )
        if measure.paired and measure.against is None and "base" in scores and "tuned" in scores:
            found.append(change(scores, "base", "tuned", measure, check, resampling))
    return found


def aligned(scores: Mapping[str, Scores]) -> dict[str, Scores]:
    """The scores with the rows of all subjects in the order of the first one's.

    Errors: DataError when a subject has rows that another lacks, or a row twice.
    """
    result: dict[str, Scores] = {}
    for subject, own in scores.items():
        position = {row: index for index, row in enumerate(own.rows)}
        if len(position) != len(own.rows):
            raise DataError(
                f"the scores of {subject} hold {len(own.rows) - len(position)} rows twice",
                expected="one row for each id",
            )
        first_name, first = next(iter(scores.items()))
        missing = [row for row in first.rows if row not in position]
        extra = len(own.rows) - (len(first.rows) - len(missing))
        if missing or extra:
            example = missing[0] if missing else next(row for row in own.rows if row not in set(first.rows))
            raise DataError(
                f"{first_name} and {subject} were not measured on the same rows: {len(missing)} only in {first_name}, "
                f"{extra} only in {subject}, such as '{example}'",
                expected="the same rows for every subject, so that they can be compared in pairs",
                remedy="measure both again on the same test data",
            )
        order = np.array([position[row] for row in first.rows], dtype=np.int64)
        if own.rows != first.rows:
            values = {name: value[order] for name, value in own.values.items()}
            clusters = own.clusters and tuple(own.clusters[index] for index in order)
            own = replace(own, rows=first.rows, values=values, clusters=clusters)
        result[subject] = own
    return result


def resampling_of(scores: Mapping[str, Scores], check: str, seed: int, resamples: int) -> Resampling:
    """The resamples of a check's rows: a function of the run's seed and the check's name."""
    first = next(iter(scores.values()))
    own_seed = int(np.random.SeedSequence([seed, zlib.crc32(check.encode())]).generate_state(1)[0])
    return Resampling(len(first.rows), clusters=first.clusters, resamples=resamples, seed=own_seed)


def level(scores: Mapping[str, Scores], subject: str, measure: Measure, check: str, resampling: Resampling) -> Finding:
    """One subject's value of a measure with its interval, or undefined with the reason."""
    own = scores[subject]
    # What holds for all of a check's numbers is said once, not for every class.
    notes = [own.note] if own.note and measure.group is None else []
    value, low, high = math.nan, None, None
    if not own.rows:
        notes.append("undefined: no rows to measure")
    else:
        values = own.values[measure.source or measure.name]
        if measure.against:
            values = _beside(values, scores[measure.against].values[measure.source or measure.name])
        value = resampling.value(measure.aggregate, values)
        if math.isnan(value):
            notes.append("undefined on these rows")
        elif not measure.interval:
            notes.append("no interval: the statistic has none by resampling")
        elif resampling.units < 2:
            notes.append("no interval: only one unit to resample")
        else:
            low, high, remark = _bounds(measure, values, value, resampling)
            notes.extend(remark)
    return Finding(
        check=check,
        metric=measure.name,
        subject=subject,
        value=value,
        low=low,
        high=high,
        n=int(_tried(measure, values).sum()) if own.rows else 0,
        better=measure.better,
        group=measure.group,
        against=measure.against,
        note="; ".join(notes) or None,
    )


def _beside(own: Floats, other: Floats) -> Floats:
    """[n, 2k], the subject's columns, then the other's; a narrower side is filled with NaN, which matches nothing."""
    width = max(own.shape[1], other.shape[1])
    sides = [np.pad(side, ((0, 0), (0, width - side.shape[1])), constant_values=math.nan) for side in (own, other)]
    return np.concatenate(sides, axis=1)


def _tried(measure: Measure, values: Floats) -> NDArray[np.bool_]:
    """[n] which rows the value is told from."""
    return np.ones(len(values), dtype=np.bool_) if measure.trials is None else measure.trials(values) > 0


def _bounds(
    measure: Measure, values: Floats, value: float, resampling: Resampling
) -> tuple[float | None, float | None, list[str]]:
    replicates = resampling.replicates(measure.aggregate, values)
    told = replicates[~np.isnan(replicates)]
    if (measure.binary or measure.share or measure.trials is not None) and np.ptp(told) < 1e-12:
        # All rows alike: every resample is, too, and the bootstrap would claim certainty. As many rows of another kind
        # as chance may have hidden could be anywhere from 0 to 1.
        reach = 0.025 ** (1 / resampling.units_of(_tried(measure, values)))
        return value * reach, 1 - (1 - value) * reach, ["all rows alike: exact binomial bounds"]
    bounds = interval(value, replicates, resampling.left_out(measure.aggregate, values))
    undefined = int(np.isnan(replicates).sum())
    remark = [f"undefined in {undefined} of {len(replicates)} resamples"] if undefined else []
    return (*bounds, remark) if bounds else (None, None, remark)


def change(
    scores: Mapping[str, Scores], first: str, second: str, measure: Measure, check: str, resampling: Resampling
) -> Finding:
    """Second minus first on the same rows, with interval and p; the note names the test. Scores must be aligned."""
    source = measure.source or measure.name
    count = len(scores[first].rows)
    before = scores[first].values[source]
    after = scores[second].values[source]
    value, low, high, p = math.nan, None, None, None
    note = "undefined: no rows to measure"
    if count:
        difference = paired_bootstrap(before, after, measure.aggregate, resampling)
        value, low, high = difference.value, difference.low, difference.high
        note = "paired bootstrap"
        if math.isnan(value):
            note = "undefined on these rows"
        elif measure.binary and scores[first].clusters is None:
            gained, lost = int((after > before).sum()), int((after < before).sum())
            p, note = mcnemar(lost, gained), f"McNemar: {gained} rows gained, {lost} lost"
        elif measure.aggregate is row_mean and np.isfinite(after - before).all():
            p = sign_flip((after - before)[:, 0], clusters=scores[first].clusters, seed=resampling.seed)
            note = "paired sign flips"
        else:
            p = difference.p
        if scores[first].clusters is not None:
            note += f", by {resampling.units} clusters"
        if (measure.binary or measure.share) and resampling.units > 1 and (after - before == value).all():
            # As in _bounds: what no row contradicts is not certain. One side of McNemar's table, or both, is empty.
            reach = (1 + abs(value)) * (1 - 0.025 ** (1 / resampling.units))
            low, high = max(-1.0, value - reach), min(1.0, value + reach)
            note += ", exact binomial bounds"
        if not measure.interval:
            low = high = None
    return Finding(
        check=check,
        metric=measure.name,
        subject="change",
        value=value,
        low=low,
        high=high,
        n=count,
        better=measure.better,
        group=measure.group,
        against=first,
        p=p,
        note=note,
    )


def adjust(findings: Sequence[Finding]) -> list[Finding]:
    """The findings with their p adjusted by Holm over all that have one; the note keeps the p of the single test."""
    tested = [index for index, finding in enumerate(findings) if finding.p is not None]
    adjusted = holm([p for finding in findings if (p := finding.p) is not None])
    result = list(findings)
    for index, p in zip(tested, adjusted, strict=True):
        single = f"single test p = {result[index].p:.3g}, Holm over {len(tested)}"
        result[index] = replace(result[index], p=p, note="; ".join(filter(None, [result[index].note, single])))
    return result
