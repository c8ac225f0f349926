"""Brings strata (classes, groups, files, lengths) to chosen shares: rows dropped, repeated in an epoch, or weighted.

By default every stratum gets the same share and its rows come again as often as that takes: nothing is lost, and an
epoch grows longer. `temperature` keeps some of the imbalance, `effective` weighs by the effective number of samples,
`shares` names the shares. Where strata are tiny, `limit` keeps their rows from being learned by heart: beyond four
times, repeats add little (Muennighoff et al. 2023). `how: drop` takes rows out; with `size` it draws a stratified
sample (temperature 1 for shares as they are). Which rows leave depends on seed and id alone. A stratum whose share is 0
leaves.
Errors: DataError where no row has a class or the group named, or shares name a stratum that is not there.
Source: temperature: Arivazhagan et al. 2019 (arXiv:1907.05019); effective number: Cui et al. 2019 (arXiv:1901.05555).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ...core.contracts import Step, StepContext
from ...core.errors import DataError, Problem, nearest
from ...core.example import Example
from ...core.problems import refused
from ...functional.shares import apportioned, effective_shares, given_shares, largest_size, temperature_shares
from ..strata import Strata, drawn

__all__ = ["Balance"]

Floats = NDArray[np.float64]

_TOLD = 200
"""Strata that the facts name: the largest."""


class Balance(Step):
    """Drops, repeats or weighs rows until strata have their shares; scope corpus, train only."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    splits: ClassVar[Literal["all", "train"]] = "train"
    example: ClassVar[Mapping[str, Any]] = {"by": "length", "how": "weight", "temperature": 2}

    by: str | tuple[str, ...] = Field(
        "label", description="label, file, length (words, by powers of 2), a group, or a list of these"
    )
    how: Literal["repeat", "weight", "drop"] = Field(
        "repeat", description="rows come again in an epoch, weigh more or less in the loss, or leave"
    )
    temperature: float | None = Field(
        None, ge=1, description="shares in proportion to size ** (1 / temperature); absent: equal shares"
    )
    effective: float | None = Field(
        None, ge=0, lt=1, description="beta of the effective number of samples, instead of a temperature: 0.999"
    )
    shares: dict[str, float] = Field(
        default_factory=dict, description="share of each stratum by name; those not named share the rest"
    )
    limit: float | None = Field(None, ge=1, description="with repeat or weight: the largest factor of a row")
    size: int | None = Field(None, ge=1, description="with drop: how many rows to draw; absent: as many as can be")

    @model_validator(mode="after")
    def _one_target(self) -> Balance:
        given = [name for name in ("temperature", "effective", "shares") if getattr(self, name) not in (None, {})]
        if len(given) > 1:
            raise refused(Problem(f"{' and '.join(given)} both say what the shares are", expected="one of them"))
        if self.size is not None and self.how != "drop":
            raise refused(Problem(f"a size with how: {self.how}", remedy="how: drop draws so many rows"))
        if self.limit is not None and self.how == "drop":
            raise refused(Problem("a limit with how: drop", expected="how: repeat or how: weight"))
        if any(share < 0 for share in self.shares.values()) or sum(self.shares.values()) > 1 + 1e-9:
            raise refused(
                Problem(f"the shares are {sum(self.shares.values()):g} together", expected="shares of at most 1 in all")
            )
        return self

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        rows = examples if isinstance(examples, Sequence) else list(examples)
        if not rows:
            return
        by = (self.by,) if isinstance(self.by, str) else self.by
        strata = Strata.of(rows, by, "data.steps.balance.by")
        shares = self._shares(strata)
        facts: dict[str, Any] = {"by": ", ".join(by), "how": self.how, "strata": len(strata.names)}
        if self.how == "drop":
            taken = apportioned(largest_size(strata.counts, shares) if self.size is None else self.size,
                                strata.counts, shares)  # fmt: skip
            # A stratum with a share keeps a row, however small that share is.
            taken = np.where((shares > 0) & (self.size is None), np.maximum(taken, 1), taken)
            context.facts.update(facts, largest=_told(strata, shares, "rows kept", taken.astype(np.float64)))
            yield from self._dropped(rows, strata, taken, context)
            return
        factors = self._factors(rows, strata, shares)
        context.facts.update(facts, largest=_told(strata, shares, f"{self.how} times", factors))
        for number, example in enumerate(rows):
            name, factor = strata.names[strata.of_row[number]], float(factors[strata.of_row[number]])
            if factor == 0:
                context.ledger.drop(example, f"its share is 0: {name}")
            else:
                yield self._changed(example, factor, name, context)

    def _shares(self, strata: Strata) -> Floats:
        """What share each stratum is to have."""
        for name in self.shares:
            if name not in strata.names:
                near = nearest(name, strata.names)
                raise DataError(
                    f"no row is of '{name}'",
                    where="data.steps.balance.shares",
                    expected="one of " + ", ".join(strata.names[:20]),
                    remedy=f"did you mean '{near}'?" if near else None,
                )
        if self.shares:
            return given_shares(strata.names, strata.counts, self.shares)
        if self.effective is not None:
            return effective_shares(strata.counts, self.effective)
        return temperature_shares(strata.counts, self.temperature)

    def _factors(self, rows: Iterable[Example], strata: Strata, shares: Floats) -> Floats:
        """[s] what the repeat or the weight of a stratum's rows is multiplied by; what they had before is reckoned in.

        repeat: the smallest is 1, so that every row is seen. weight: the mean over an epoch stays as it was.
        """
        had = np.zeros(len(strata.names))
        for number, example in enumerate(rows):
            had[strata.of_row[number]] += example.repeat * (example.weight if self.how == "weight" else 1.0)
        factors: Floats = np.divide(shares * had.sum(), had, out=(shares > 0).astype(np.float64), where=had > 0)
        if self.how == "repeat":
            factors = factors / factors[factors > 0].min()
        return factors if self.limit is None else np.minimum(factors, self.limit)

    def _changed(self, example: Example, factor: float, name: str, context: StepContext) -> Example:
        if abs(factor - 1) < 1e-9:
            return example
        origin = replace(example.origin, steps=(*example.origin.steps, self.component_name()))
        if self.how == "repeat":
            after = replace(example, repeat=example.repeat * factor, origin=origin)
        else:
            after = replace(example, weight=example.weight * factor, origin=origin)
        context.ledger.change(example, after, f"{self.how}: {factor:.4g} times, {name}")
        return after

    def _dropped(
        self, rows: Iterable[Example], strata: Strata, taken: NDArray[np.int64], context: StepContext
    ) -> Iterator[Example]:
        """The rows with the smallest draws of each stratum; the others leave."""
        draws = np.fromiter((drawn(context.seed, example.id) for example in rows), np.float64)
        order = np.lexsort((draws, strata.of_row))
        begins = np.cumsum(strata.counts) - strata.counts
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order)) - np.repeat(begins, strata.counts)
        stays = rank < taken[strata.of_row]
        for number, example in enumerate(rows):
            if stays[number]:
                yield example
            else:
                context.ledger.drop(example, f"beyond its share: {strata.names[strata.of_row[number]]}")


def _told(strata: Strata, shares: Floats, what: str, values: Floats) -> dict[str, dict[str, float]]:
    """The largest strata: rows, their share, the share they are to have, and what was done."""
    total = int(strata.counts.sum())
    largest = np.argsort(-strata.counts, kind="stable")[:_TOLD]
    return {
        strata.names[place]: {
            "rows": int(strata.counts[place]),
            "share": round(int(strata.counts[place]) / total, 6),
            "share to have": round(float(shares[place]), 6),
            what: round(float(values[place]), 6),
        }
        for place in largest.tolist()
    }
