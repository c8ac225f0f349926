"""Tagging: a class for each word of a sentence, such as the names in it (BIO) or parts of speech.

A word is judged at its first token, which sees the whole window; its other tokens are not learned. Sentences longer
than max_length are cut into windows that share context, each word learned once. The loss of a step is the
cross-entropy in nats summed over words, divided by the words of the whole step.
Source: Devlin et al. 2019 (arXiv:1810.04805), section 5.3. Errors: a tag that stands only in validation or test data is
refused, with the row; so is an I- that goes on with nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from ..core.contracts import Batch, Encoder, Models, Objective, Row, Task, Term
from ..core.errors import DataError, Problem, nearest, shortened
from ..core.example import Example
from ..data.parts import tokens_of
from ..functional.tagging import Scheme, as_bio, as_bioes, follows, kinds_of, labels_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.recipe import Phase, Recipe

__all__ = ["Tag"]


class Tag(Objective):
    """scheme: the tags that the model learns where tags mark spans; "bioes" also tells where a span ends. Data come in
    BIO, and predictions are given in it, either way. label_smoothing: 0 to 1.
    """

    example: ClassVar[dict[str, Any]] = {"scheme": "bioes", "label_smoothing": 0.05}
    needs: ClassVar[frozenset[str]] = frozenset({"tokens"})
    task: ClassVar[Task] = "token_classification"
    scheme: Scheme = "bio"
    label_smoothing: float = Field(0.0, ge=0, lt=1)

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterable[Problem]:
        from ..data.windows import overlong_problems

        return overlong_problems(phase)

    def survey(self, examples: Sequence[Example]) -> dict[str, Any]:
        """kinds (sorted; None for tags that mark no spans), scheme, and classes in the order of the model's head."""
        tags = {tag for example in examples for tag in _tags(example)}
        kinds = kinds_of(tags)
        if kinds is not None and (plain := sorted(tags - {"O", *labels_of(kinds, "bio")})):
            raise DataError(
                f"the tag '{shortened(plain[0])}' stands among tags that mark spans",
                where=examples[0].origin.file,
                expected="O, or a prefix and a kind such as B-PER",
                remedy="check which column holds the tags",
            )
        classes = sorted(tags) if kinds is None else labels_of(kinds, self.scheme)
        if len(classes) < 2 or tags == {"O"}:
            raise DataError(
                f"the training data holds {len(classes)} tag" + (f", '{shortened(classes[0])}'" if classes else "s"),
                where=examples[0].origin.file if examples else None,
                expected="at least two tags to tell apart",
                remedy="check which column holds the tags, and whether a step dropped the tagged rows",
            )
        return {"kinds": kinds, "scheme": self.scheme if kinds is not None else None, "classes": classes}

    def require(self, held_out: Sequence[Example], facts: Mapping[str, Any]) -> None:
        known = frozenset(facts["classes"])
        found = [(row, tag) for row in held_out for tag in dict.fromkeys(self._learned(row, facts)) if tag not in known]
        if found:
            raise _unknown(found, facts["classes"])

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        position = {name: number for number, name in enumerate(encoder.facts["classes"])}
        tags = self._learned(example, encoder.facts)
        for tag in tags:
            if tag not in position:
                raise _unknown([(example, tag)], encoder.facts["classes"])
        return encoder.words(example, [position[tag] for tag in tags])

    def _learned(self, example: Example, facts: Mapping[str, Any]) -> list[str]:
        """The example's tags in the scheme that is learned."""
        tags = _tags(example)
        if facts["kinds"] is None:
            return list(tags)
        return as_bioes(tags) if facts["scheme"] == "bioes" else as_bio(tags)

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        from ..functional.packing import segment_sum, sequence_index

        per_sequence = segment_sum(batch.supervised.float(), sequence_index(batch.starts), batch.size)
        return {"cross_entropy": per_sequence * batch.weights}

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        import torch
        import torch.nn.functional as F

        from ..functional.packing import segment_sum, sequence_index

        assert batch.targets is not None
        logits = models.policy.token_logits(batch)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        targets = batch.targets[batch.supervised]
        losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=self.label_smoothing)
        index = sequence_index(batch.starts)[batch.supervised]
        return [Term("cross_entropy", segment_sum(losses, index, batch.size) * batch.weights)]


def _tags(example: Example) -> tuple[str, ...]:
    """The tags of a row. Errors: DataError where there are none, or where they mark no spans that make sense."""
    _, tags = tokens_of(example)
    for before, tag in zip(("O", *tags), tags, strict=False):
        if tag.startswith("I-") and not follows(before, tag, "bio"):
            raise DataError(
                f"row '{example.id}' has the tag '{shortened(tag)}' after '{shortened(before)}'",
                where=str(example.origin),
                expected="BIO: a span opens with B- and goes on with I- of the same kind",
                remedy="name the format tags in data.train, which reads other markings, or mend the row",
            )
    return tags


def _unknown(found: Sequence[tuple[Example, str]], classes: Sequence[str]) -> DataError:
    """The refusal of rows with tags that no training row has: the first, and how many and which there are."""
    (first, tag), names = found[0], list(dict.fromkeys(name for _, name in found))
    near = nearest(tag, classes)
    rows = len({row.id for row, _ in found})
    others = f"; {rows} rows have such a tag, {len(names)} tags in all" if rows > 1 else ""
    return DataError(
        f"the tag '{shortened(tag)}' does not occur in the training data{others}",
        where=str(first.origin),
        expected=f"one of the {len(classes)} tags of the training data"
        + (f", such as '{shortened(near)}'" if near else ""),
        remedy="add rows with this tag to the training data, or drop it from the others",
    )
