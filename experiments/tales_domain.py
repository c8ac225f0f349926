"""Does continued pretraining on a domain's books lower perplexity there, and what does it cost elsewhere?

    python -m experiments.tales_domain [--quick] [--json FILE]

The recipe `tales-domain` on whole books for young readers; held-out books measure the gain, web text the cost.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.record import Measured, finish

from ._recipes import arguments_of, effect, finding, outside, ran

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Continued pretraining on children's books: gain and cost.", arguments)
    data = [f"data.train={outside('text/children.jsonl.xz')}", f"checks.forgetting.on={outside('text/web-sample')}"]
    quick = ["steps=4"] if given.quick else []
    run = ran("tales-domain", [*data, *quick], given.out / ("tales-domain-quick" if given.quick else "tales-domain"))
    rows = effect(run, "perplexity.perplexity", "held-out books for young readers", floor=not given.quick)
    rows += effect(run, "perplexity.bits_per_byte", "held-out books for young readers", floor=False)
    rows += effect(run, "forgetting.perplexity", "web text", floor=False)
    ratio = finding(run, "forgetting.perplexity_ratio", "tuned")
    rows.append(Measured("web text: perplexity tuned over base", ratio.value, None, ratio.value, ratio.low, ratio.high))
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
