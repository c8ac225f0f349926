"""LoRA training of a 135M Llama shape beside TRL's trainer with PEFT: rank-16 adapters on all linear layers move.

    python -m benchmarks.sft_lora [--quick] [--json FILE]

What is compared, and how, stands in benchmarks/_sft.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks._sft import Floors, main_of

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    return main_of("lora", Floors(usual=6.0, alike=4.0, share=0.5, memory=1 / 0.6), arguments)


if __name__ == "__main__":
    sys.exit(main())
