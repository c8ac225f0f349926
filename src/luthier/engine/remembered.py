"""What running out of memory taught, for the next run: a small file in the user's cache folder.

micro_tokens.json in $XDG_CACHE_HOME/luthier (or ~/.cache/luthier) holds, by what was trained on which machine, the
micro-batch that fitted at last. A file that cannot be read or written never stops a run: it only forgets. To have a
size found again, remove the file.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from ..core.errors import MachineError
from ..core.files import write_atomic

__all__ = ["place", "remember", "remembered"]


def remembered(what: str) -> int | None:
    """Tokens of the micro-batch that fitted for `what`, as an earlier run found out; None where none did."""
    found = _read().get(what)
    return found if type(found) is int and found > 0 else None


def remember(what: str, micro_tokens: int) -> None:
    """Keeps it for the next run."""
    with suppress(MachineError, OSError, RuntimeError):
        write_atomic(place(), json.dumps(_read() | {what: micro_tokens}, indent=1, sort_keys=True) + "\n")


def place() -> Path:
    """The file."""
    # A relative path there is to be ignored (XDG Base Directory Specification).
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path("~/.cache").expanduser()) / "luthier" / "micro_tokens.json"


def _read() -> dict[str, object]:
    try:
        value = json.loads(place().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError):
        return {}
    return value if isinstance(value, dict) else {}
