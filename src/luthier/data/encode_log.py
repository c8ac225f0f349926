"""What encoding did to rows: which were shortened, left out, or have nothing to learn, and why."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["EncodeLog", "Truncated"]


@dataclass(frozen=True, slots=True)
class Truncated:
    """A row that was shortened: its length before and after in tokens, and what was cut, in words."""

    before: int
    after: int
    cut: str


@dataclass(slots=True)
class EncodeLog:
    """What encoding did to rows, by row id, so that encoding a row twice counts once.

    untrained: rows in which nothing is supervised; they are left out. prompts: shortened for generation only.
    """

    truncated: dict[str, Truncated] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    untrained: dict[str, str] = field(default_factory=dict)
    prompts: dict[str, Truncated] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """How many rows were truncated, dropped or without anything to learn, and prompts shortened."""
        return {
            "truncated": len(self.truncated),
            "dropped": len(self.dropped),
            "untrained": len(self.untrained),
            "prompts": len(self.prompts),
        }
