"""What the fuzz tests share: values that are drawn, damage to bytes, and how many examples are tried."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
KEYS = st.sampled_from(
    [
        *("text", "label", "labels", "messages", "role", "content", "conversations", "from", "value", "instruction"),
        *("input", "output", "history", "system", "tools", "tool_calls", "train", "weight", "id", "name", "type"),
        *("prompt", "chosen", "rejected", "completion", "margin", "a", "b", "negative", "score", "tokens", "tags"),
        *("question", "context", "answers", "answer_start", "data", "paragraphs", "qas", "Definition", "Instances"),
        *("Positive Examples", "output_1", "output_2", "kto_tag"),
    ]
)
ROLES = st.sampled_from(["user", "assistant", "system", "tool", "human", "gpt", "function_call"])
PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT, ROLES, st.sampled_from(["text", "", "{", "[]"])
)
JSON = st.recursive(
    PLAIN, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)), max_leaves=12
)
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "twice", "end"]),
        st.floats(0, 1, exclude_max=True),
        st.one_of(st.binary(max_size=6), st.sampled_from([b"\n", b'"', b"\0", b"\xff", b",", b"{", b"[", b"\\ud800"])),
    ),
    min_size=1,
    max_size=4,
)

Edits = list[tuple[str, float, bytes]]


def edited(data: bytes, edits: Edits) -> bytes:
    """The bytes with each edit at its share of the length."""
    for kind, share, more in edits:
        at = int(share * len(data))
        if kind == "flip":
            data = data[:at] + bytes([data[at] ^ (more[0] if more else 1)]) + data[at + 1 :] if data else data
        elif kind == "cut":
            data = data[:at] + data[at + len(more) + 1 :]
        elif kind == "insert":
            data = data[:at] + more + data[at:]
        elif kind == "twice":
            data = data[:at] + data[at // 2 :]
        else:
            data = data[: at + 1]
    return data


QUICK = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
ANEW = "LUTHIER_FUZZ_ANEW"
"""With this environment variable set the long form draws its examples anew (`make fuzz`); else they are the same, so
that what is found by chance does not decide whether an unrelated change passes.
"""
LONG = settings(QUICK, derandomize=ANEW not in os.environ, max_examples=3000 if ANEW in os.environ else 400)


@dataclass(frozen=True)
class Property:
    """A property with what it is given, and how many examples the quick form takes."""

    holds: Callable[..., None]
    examples: int
    given: dict[str, Any]

    def quick(self) -> None:
        """The same examples every time."""
        settings(QUICK, max_examples=self.examples)(given(**self.given)(self.holds))()

    def long(self) -> None:
        """400 examples, or 3,000 anew; see ANEW."""
        LONG(given(**self.given)(self.holds))()
