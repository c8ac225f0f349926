"""Writes docs/compositions.md: what composes with what, tried on tiny models. It takes no arguments."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    from conformance.compositions import page

    text = page()
    (ROOT / "docs" / "compositions.md").write_text(text, encoding="utf-8")
    print(text)
