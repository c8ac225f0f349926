"""Whether the model's answers are the wanted ones: exact match, token F1, BLEU and ROUGE.

exact and token_f1 after SQuAD's normalization, rouge_1 and rouge_l as F-measures: means over items, 0 to 1.
bleu: of the whole corpus, 0 to 100, sacrebleu's defaults. With several references the best counts. Higher is better.
Source: Rajpurkar et al. 2016 (arXiv:1606.05250); Papineni et al. 2002 and Post 2018 (arXiv:1804.08771); Lin 2004.
Errors: a DataError where no item has a reference answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from ..core.errors import DataError
from ..core.evidence import Check, CheckContext, Measure, Sample, Scores, Subject
from ..core.example import Example
from ..data.parts import prompt_turns, wanted_of
from ..functional.statistics import OfSums, row_mean

__all__ = ["TextMatch"]


class TextMatch(Check):
    """Generates an answer to each item's prompt and compares it with the references."""

    example: ClassVar[Mapping[str, Any]] = {"limit": 200, "samples": 4}
    tasks: ClassVar[frozenset[str]] = frozenset({"causal_lm", "seq2seq"})
    limit: int | None = Field(
        None, gt=0, description="at most so many items, chosen by their ids: the same in every run"
    )
    samples: int = Field(12, ge=0, description="items kept with prompt and answer for the report")

    def examples(self, test: Sequence[Example], context: CheckContext) -> Sequence[Example]:
        answerable = [example for example in test if wanted_of(example)]
        if not answerable:
            raise DataError(
                f"none of the {len(test)} test items has a reference answer",
                expected="conversations that end in an answer, or texts with a target",
                remedy="set data.test to such a file, or take text_match out of checks",
            )
        return context.choose(answerable, self.limit)

    def measure(self, subject: Subject, examples: Sequence[Example], context: CheckContext) -> Scores:
        from ..functional.text_match import bleu_counts, exact, rouge, token_f1

        answers = subject.generate(examples)
        pairs = [(answer, wanted_of(example)) for answer, example in zip(answers, examples, strict=True)]
        rouges = np.array([rouge(*pair) for pair in pairs], dtype=np.float64).reshape(-1, 2)
        values = {
            "exact": np.array([[exact(*pair)] for pair in pairs]),
            "token_f1": np.array([[token_f1(*pair)] for pair in pairs]),
            "bleu": np.array([bleu_counts(*pair) for pair in pairs]),
            "rouge_1": rouges[:, :1],
            "rouge_l": rouges[:, 1:],
        }
        # The same items whichever subject is measured, so that their answers can stand side by side.
        shown = {example.id for example in context.choose(examples, self.samples)} if self.samples else set()
        samples = tuple(
            Sample(example.id, _shortened(_prompt(example)), wanted[0], answer)
            for example, (answer, wanted) in zip(examples, pairs, strict=True)
            if example.id in shown
        )
        return context.scores(examples, values, samples=samples, note=subject.about)

    def measures(self, facts: Mapping[str, Any]) -> Sequence[Measure]:
        return [
            Measure("exact", "higher", row_mean, binary=True),
            Measure("token_f1", "higher", row_mean, share=True),
            Measure("bleu", "higher", OfSums(_bleu)),
            Measure("rouge_1", "higher", row_mean, share=True),
            Measure("rouge_l", "higher", row_mean, share=True),
        ]


def _bleu(sums: Any, rows: Any) -> Any:
    from ..functional.text_match import bleu_of

    return bleu_of(sums)


def _prompt(example: Example) -> str:
    """What comes before the answer, with the roles named where several turns do."""
    before = prompt_turns(example)
    if not before:
        return example.text()
    return before[0].content if len(before) == 1 else "\n".join(f"{turn.role}: {turn.content}" for turn in before)


def _shortened(text: str, start: int = 300, end: int = 500) -> str:
    """Beginning and end of a long text: questions often stand last."""
    return text if len(text) <= start + end else f"{text[:start]} […] {text[-end:]}"
