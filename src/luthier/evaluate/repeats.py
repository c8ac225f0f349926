"""Runs repeated over seeds: the mean of each finding and how far seeds spread.

The interval is Student's, over seeds: it tells what another seed would bring, not what other test rows would.
Source: Student 1908; reporting after Henderson et al. 2018 (arXiv:1709.06560), section 5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev

from ..core.evidence import Finding
from ..functional.statistics import t_cdf, t_quantile

__all__ = ["spread"]

_Key = tuple[str, str, str, str | None, str | None]


def spread(per_seed: Mapping[int, Sequence[Finding]]) -> list[Finding]:
    """One finding for each that some seed made: mean over seeds, 95 % t interval, n seeds; the note lists the values.

    p (changes only): one-sample t test that the mean over seeds is zero, not adjusted. A finding that is undefined
    for a seed, or that a seed lacks, is averaged over nothing: it is undefined and the note says for which seeds.
    """
    gathered: dict[_Key, dict[int, Finding]] = {}
    for seed, findings in per_seed.items():
        for finding in findings:
            key = (finding.check, finding.metric, finding.subject, finding.group, finding.against)
            gathered.setdefault(key, {})[seed] = finding
    return [_one(by_seed, tuple(per_seed)) for by_seed in gathered.values()]


def _one(by_seed: Mapping[int, Finding], seeds: Sequence[int]) -> Finding:
    first = next(iter(by_seed.values()))
    values = {seed: by_seed[seed].value for seed in seeds if seed in by_seed}
    listed = ", ".join(f"{seed}: {value:.6g}" for seed, value in values.items())
    holes = [str(seed) for seed in seeds if math.isnan(values.get(seed, math.nan))]
    if holes:
        note = f"undefined for seed {', '.join(holes)} ({listed})"
        return replace(first, value=math.nan, low=None, high=None, n=len(values), p=None, note=note)
    count = len(values)
    mean = fmean(values.values())
    low, high, p = None, None, None
    note = f"mean of {count} seed{'s' if count > 1 else ''} ({listed})"
    if count > 1:
        error = stdev(values.values()) / math.sqrt(count)
        reach = t_quantile(0.975, count - 1) * error
        low, high = mean - reach, mean + reach
        note += f", standard deviation {stdev(values.values()):.3g}; t interval over seeds"
        if first.subject == "change" and error > 0:
            p = 2 * (1 - t_cdf(abs(mean / error), count - 1))
    return replace(first, value=mean, low=low, high=high, n=count, p=p, note=note)
