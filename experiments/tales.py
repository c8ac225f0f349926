"""Does tuning the embedded model on questions about tales make its answers better? FairytaleQA's test split.

    python -m experiments.tales [--quick] [--json FILE]

The recipe `tales`: base and tuned answer the same 1,007 questions; tales are resampled whole.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.record import finish

from ._recipes import arguments_of, effect, outside, ran

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Question answering on FairytaleQA, base against tuned.", arguments)
    splits = {"train": "train", "validation": "val", "test": "test"}
    data = [f"data.{name}={outside(f'tasks/fairytaleqa/{file}.jsonl')}" for name, file in splits.items()]
    quick = ["epochs=", "steps=4", "checks.text_match={text_match: {limit: 40}}"] if given.quick else []
    run = ran("tales", [*data, *quick], given.out / ("tales-quick" if given.quick else "tales"))
    what = "FairytaleQA test"
    rows = effect(run, "text_match.token_f1", what, floor=not given.quick)
    rows += effect(run, "text_match.rouge_l", what, floor=False)
    rows += effect(run, "forgetting.perplexity", "general text", floor=False)
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
