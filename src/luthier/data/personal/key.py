"""The key of the pseudonyms: from the environment, or from a file of its own, which is made where there is none.

The key never enters a run, a ledger or a report. Whoever holds it can tell who a pseudonym stands for by trying names;
whoever deletes it makes the pseudonyms anonymous (as far as the rest of the text does not tell).
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import DataError, MachineError

__all__ = ["VARIABLE", "Key", "default_file", "read_key"]

VARIABLE = "LUTHIER_ANONYMIZE_KEY"
_SHORTEST = 16


@dataclass(frozen=True)
class Key:
    """The bytes, and where they came from in words that may be published."""

    secret: bytes
    source: str

    def __repr__(self) -> str:
        return f"Key({self.source})"


def default_file() -> Path:
    """Where the key lies if nothing else is said: in the user's own configuration."""
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "luthier" / "anonymize.key"


def read_key(file: Path | None) -> Key:
    """The key of the file that is named; else of the environment variable; else of the default file.

    An absent file is made, with a key drawn at random, readable by its owner alone.
    Errors: DataError for a key that is short, or that others may read; MachineError where the file cannot be made.
    """
    given = os.environ.get(VARIABLE)
    if file is None and given is not None:
        return Key(_long_enough(given.encode(), VARIABLE), f"from the environment ({VARIABLE})")
    path = file or default_file()
    made = _made(path)
    try:
        secret = path.read_bytes().strip()
        mode = path.stat().st_mode
    except OSError as error:
        raise MachineError(f"the key of the pseudonyms cannot be read: {error.strerror}", where=str(path)) from error
    if os.name == "posix" and mode & 0o077:
        raise DataError(
            "the key of the pseudonyms can be read by others",
            where=str(path),
            expected="a file for its owner alone",
            remedy=f"chmod 600 {path}",
        )
    name = "of this user" if file is None else "that the step names"
    return Key(_long_enough(secret, str(path)), f"from the key file {name}" + (", made now" if made else ""))


def _made(path: Path) -> bool:
    """Whether the file was absent and is made now; of two processes one makes it."""
    if path.exists():
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            stream.write(secrets.token_hex(32) + "\n")
        try:
            os.link(draft, path)  # refuses to take another's place, and is never seen half written
        except FileExistsError:
            return False
        finally:
            draft.unlink()
    except OSError as error:
        raise MachineError(
            f"no key for the pseudonyms can be made: {error.strerror}",
            where=str(path),
            remedy=f"name another file, anonymize: {{key_file: PATH}}, or set {VARIABLE}",
        ) from error
    return True


def _long_enough(secret: bytes, where: str) -> bytes:
    if len(secret) < _SHORTEST:
        raise DataError(
            f"the key of the pseudonyms has {len(secret)} bytes",
            where=where,
            expected=f"at least {_SHORTEST}, drawn at random",
            remedy="python -c 'import secrets; print(secrets.token_hex(32))' prints one",
        )
    return secret
