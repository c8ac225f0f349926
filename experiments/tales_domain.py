"""Does continued pretraining on a domain's text lower perplexity there, and what does it cost elsewhere?

    python -m experiments.tales_domain [--quick] [--json FILE]

The recipe `tales-domain` on articles of an encyclopedia, which the embedded model has not seen while it was made (books
and tales it has); held-out articles measure the gain, web pages the cost.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from benchmarks.record import Measured, finish

from ._recipes import arguments_of, effect, finding, outside, ran

__all__ = ["main"]

SAMPLE = "text/web-sample"


def main(arguments: Sequence[str] | None = None) -> int:
    given = arguments_of("Continued pretraining on an encyclopedia: gain and cost.", arguments)
    articles = outside(f"{SAMPLE}/wiki_demo.txt").read_text(encoding="utf-8").splitlines()
    given.out.mkdir(parents=True, exist_ok=True)
    train = given.out / "articles.jsonl"
    train.write_text("".join(json.dumps({"text": one}) + "\n" for one in articles if one.strip()), encoding="utf-8")
    elsewhere = outside(f"{SAMPLE}/c4_demo.jsonl")
    data = [f"data.train={train}", "data.test=0.3", f"checks.forgetting.on={elsewhere}"]
    quick = ["steps=4"] if given.quick else []
    run = ran("tales-domain", [*data, *quick], given.out / ("tales-domain-quick" if given.quick else "tales-domain"))
    rows = effect(run, "perplexity.perplexity", "held-out articles", floor=not given.quick)
    rows += effect(run, "perplexity.bits_per_byte", "held-out articles", floor=False)
    rows += effect(run, "forgetting.perplexity", "web pages", floor=False)
    ratio = finding(run, "forgetting.perplexity_ratio", "tuned")
    rows.append(
        Measured("web pages: perplexity tuned over base", ratio.value, None, ratio.value, ratio.low, ratio.high)
    )
    return finish(rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
