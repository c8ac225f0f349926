"""Full training of a 135M Llama shape beside TRL's trainer: all weights move.

    python -m benchmarks.sft_full [--quick] [--json FILE]

What is compared, and how, stands in benchmarks/_sft.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks._sft import Floors, main_of

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    return main_of("full", Floors(usual=5.0, alike=3.5, share=0.5, memory=1 / 0.7), arguments)


if __name__ == "__main__":
    sys.exit(main())
