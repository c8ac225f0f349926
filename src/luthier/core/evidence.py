"""What a check needs and what it gives: a Subject is measured into Scores, and these become Findings.

A check measures one subject at a time, one number (or a few) for each row; `evaluate` aggregates the rows, pairs the
subjects and tests. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Protocol, get_args

from .component import Component
from .contracts import Floats, Ints, Task
from .example import Example

__all__ = [
    "Check",
    "CheckContext",
    "Confusion",
    "Finding",
    "Measure",
    "Sample",
    "Scores",
    "Subject",
    "plain_number",
]


class Subject(Protocol):
    """A model under measurement: base, tuned, merged, reloaded; the same calls for each."""

    @property
    def name(self) -> str:
        """base, tuned, merged or reloaded."""
        ...

    @property
    def about(self) -> str:
        """What its numbers depend on beside the weights: dtype, device, batching, decoding."""
        ...

    @property
    def task(self) -> Task:
        """The head that its objective needs, by which it is known what it can be asked."""
        ...

    def logps(self, examples: Sequence[Example]) -> tuple[Floats, Ints]:
        """([n] summed log-probabilities in nats, [n] counted tokens) of what training would supervise."""
        ...

    def token_logps(self, examples: Sequence[Example]) -> list[Floats]:
        """For each example its supervised tokens' log-probabilities, in float32 arithmetic where it can."""
        ...

    def answers(self, examples: Sequence[Example], names: Sequence[str]) -> list[Floats]:
        """For each example [k, 2]: of each of its k answers, the parts called `names`, the summed log-probability in
        nats and the number of tokens. Errors: DataError for an example that cannot be encoded.
        """
        ...

    def rewards(self, examples: Sequence[Example]) -> list[Floats]:
        """For each example [k]: the rewards of its answers, the best first; of a text its one number, [1]."""
        ...

    def generate(self, examples: Sequence[Example]) -> list[str]:
        """The model's answer to each example's prompt: its conversation up to the last trained turn."""
        ...

    def classify(self, examples: Sequence[Example]) -> Floats:
        """[n, C] log-probabilities of the classes (for multi-label: log of each class's own probability)."""
        ...

    def tag(self, examples: Sequence[Example]) -> list[Floats]:
        """For each example [words, C] log-probabilities of the tags that the model was taught."""
        ...

    def extract(self, examples: Sequence[Example]) -> list[list[Floats]]:
        """For each example the windows of its context as `functional.spans.best_answer` reads them, [L, 4] each."""
        ...

    def embed(self, texts: Sequence[str]) -> Floats:
        """[n, H] the vectors of texts, cut off at the model's length."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One shown item: what went in, what was wanted, what came out."""

    row: str
    prompt: str
    wanted: str
    answer: str


@dataclass(frozen=True, slots=True)
class Confusion:
    """matrix[wanted][given]: how many rows of one class were taken for which."""

    classes: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Scores:
    """What a check measured on one subject: for each metric, numbers for each row.

    values: metric -> [n, k] (k numbers a row: a hit; or log-probability sum and tokens; or gold and predicted class).
    clusters: [n] names that are resampled together (tales, customers), or None where rows are independent.
    items: [n] digests of what each row asks and wants, so that another run's rows can be recognized; or empty.
    """

    rows: tuple[str, ...]
    values: Mapping[str, Floats]
    clusters: tuple[str, ...] | None = None
    samples: tuple[Sample, ...] = ()
    note: str | None = None
    items: tuple[str, ...] = ()
    confusion: Confusion | None = None


@dataclass(frozen=True)
class Measure:
    """How the rows of a metric become one number. `aggregate`: [n, k] -> float.

    `against`: when set, `aggregate` takes [n, 2k]: the subject's columns, then those of the subject named here (a ratio
    to base, a gap to tuned); such a measure is reported for the subjects in `of` only.
    `paired` False leaves out the comparison of tuned with base.
    """

    name: str
    better: Literal["higher", "lower", "neither"]
    aggregate: Callable[[Floats], float]
    source: str | None = None
    """The key in Scores.values; default: the measure's name."""
    against: str | None = None
    of: tuple[str, ...] | None = None
    binary: bool = False
    """Rows are 0 or 1 and the aggregate is their mean: McNemar applies."""
    share: bool = False
    """Rows lie from 0 to 1 and the aggregate is their mean: where all are alike, exact binomial bounds stand."""
    trials: Callable[[Floats], Floats] | None = None
    """[n, k] -> [n]: of how many trials a row tells, where the value is told from them alone and lies from 0 to 1 (a
    class's recall: its rows). Where all are alike, exact binomial bounds of the rows with trials stand."""
    paired: bool = True
    group: str | None = None
    """The part of the data, or the class, that this measure is about; it goes into the finding."""
    interval: bool = True
    """False: no interval, since the statistic has none by resampling (a maximum)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One measured number, with its interval, its subject and what it was compared with.

    subject: "base", "tuned", "change" (tuned minus base on the same rows), "merged", "reloaded".
    low, high: 95 % bootstrap bounds. p: two-sided, paired, Holm-adjusted over the run's findings.
    """

    check: str
    metric: str
    subject: str
    value: float
    low: float | None
    high: float | None
    n: int
    better: Literal["higher", "lower", "neither"]
    group: str | None = None
    against: str | None = None
    p: float | None = None
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Values of plain JSON: null for what is undefined, "inf" for infinity. `from_json` gives them back."""
        return {name: plain_number(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Finding:
        """The finding that `to_json` wrote; keys of a later version are passed over."""
        names = {item.name for item in fields(cls)}
        known: dict[str, Any] = {"low": None, "high": None, "n": 0, "better": "neither"}
        known |= {key: item for key, item in value.items() if key in names}
        known |= {key: float(known[key]) for key in ("low", "high") if known[key] is not None}
        known["value"] = math.nan if known.get("value") is None else float(known["value"])
        return cls(**known)


def plain_number(value: Any) -> Any:
    """A float as JSON can hold it: null for NaN, "inf" or "-inf" for infinities; everything else as it is."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


@dataclass(frozen=True)
class CheckContext:
    """What a check is handed beside its subject and examples: the facts of the run and a reader of other data."""

    facts: Mapping[str, Any]
    seed: int
    read: Callable[[str], Sequence[Example]]
    """Examples of a path, read and detected as the recipe's data would be."""

    def choose(self, examples: Sequence[Example], limit: int | None) -> Sequence[Example]:
        """At most `limit` examples, in their order; chosen by their ids alone: the same for every seed and run."""
        if limit is None or len(examples) <= limit:
            return examples
        ranked = sorted(range(len(examples)), key=lambda i: hashlib.sha256(examples[i].id.encode()).digest())
        return [examples[index] for index in sorted(ranked[:limit])]

    def scores(
        self,
        examples: Sequence[Example],
        values: Mapping[str, Floats],
        *,
        samples: tuple[Sample, ...] = (),
        note: str | None = None,
        confusion: Confusion | None = None,
    ) -> Scores:
        """Scores of these examples: their ids and contents, clustered by the group that the split goes by, if any."""
        group = self.facts.get("split_by")
        clusters = None
        if group and all(group in example.groups for example in examples):
            clusters = tuple(example.groups[group] for example in examples)
        rows = tuple(example.id for example in examples)
        return Scores(rows, values, clusters, samples, note, tuple(map(_content, examples)), confusion)


def _content(example: Example) -> str:
    """A digest of what the example asks and wants; where it lies and what prepared it do not count."""
    plain = example.to_json()
    content = json.dumps([plain["parts"], plain["target"]], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class Check(Component):
    """Measures one subject at a time; evaluate.py aggregates, pairs and tests."""

    subjects: ClassVar[tuple[str, ...]] = ("base", "tuned")
    """Which subjects it needs: base, tuned, merged, reloaded."""
    tasks: ClassVar[frozenset[str]] = frozenset(get_args(Task))
    """The tasks (of objectives) that it can measure."""
    float32: ClassVar[bool] = False
    """Whether its subjects are opened in float32 whatever the run's dtype."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """Parts of an Example, any one of which its items must have; empty: those that the objective learns from."""
    needs_items: ClassVar[bool] = True
    """Whether it measures on the recipe's test (or validation) rows; False where it brings its own."""

    def examples(self, test: Sequence[Example], context: CheckContext) -> Sequence[Example]:
        """The items to measure on; default: the test split."""
        return test

    def measure(self, subject: Subject, examples: Sequence[Example], context: CheckContext) -> Scores:
        """One subject's numbers for each row. Errors: DataError for items that it cannot use."""
        raise NotImplementedError(type(self).__name__)

    def measures(self, facts: Mapping[str, Any]) -> Sequence[Measure]:
        """What becomes of the numbers: names, directions, and how rows are aggregated."""
        raise NotImplementedError(type(self).__name__)
