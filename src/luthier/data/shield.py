"""What people typed is shielded: no control token in a message reaches the chat template as one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.errors import DataError
from ..core.example import Turn

__all__ = ["Shield"]

_PRIVATE = (*range(0xE000, 0xF900), *range(0xF0000, 0xF1000))  # code points for private use: few texts hold any


class Shield:
    """Messages in which every control token that a person typed is replaced by as many private characters.

    The template then cannot take them for its own, and their places in the rendered text are known. Errors: DataError
    for a conversation that uses all private characters itself.
    """

    def __init__(
        self, pattern: re.Pattern[str], turns: Sequence[Turn], tools: Sequence[Mapping[str, Any]] | None
    ) -> None:
        self._pattern = pattern
        self._standing: dict[str, str] = {}
        self._taken: str | None = None
        self._said = [turn.message() for turn in turns]
        self._tools = tools
        self.messages: list[dict[str, Any]] = [
            {key: value if key == "role" else self._hide(value) for key, value in said.items()} for said in self._said
        ]
        self.tools = self._hide(list(tools)) if tools else None

    def _hide(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._pattern.sub(self._stand_in, value)
        if isinstance(value, Mapping):
            return {key: self._hide(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._hide(item) for item in value]
        return value

    def _stand_in(self, match: re.Match[str]) -> str:
        token = match.group()
        if token not in self._standing:
            if self._taken is None:  # characters that the rows use themselves cannot stand for anything
                self._taken = json.dumps([self._said, list(self._tools or ())], ensure_ascii=False, default=str)
            used = {character[0] for character in self._standing.values()} | set(self._taken)
            free = next((chr(point) for point in _PRIVATE if chr(point) not in used), None)
            if free is None:
                raise DataError(
                    "a conversation holds control tokens and all characters that could stand for them",
                    expected="texts that leave some of Unicode's private characters unused",
                    remedy="drop the row, or clean its text",
                )
            self._standing[token] = free * len(token)
        return self._standing[token]

    def restore(self, text: str) -> str:
        """The rendered text with what was typed put back, character for character in the same places."""
        for token, standing in self._standing.items():
            text = text.replace(standing, token)
        return text

    def quoted(self, text: str) -> tuple[tuple[int, int], ...]:
        """Where, in a rendered text, the private characters stand."""
        if not self._standing:
            return ()
        return tuple(m.span() for m in re.finditer("|".join(map(re.escape, self._standing.values())), text))
