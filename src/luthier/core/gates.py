"""Gates: `check.metric[.subject][.low|.high] OP expression`, with `base` in the expression for the base's value.

text_match.exact >= base + 0.10        forgetting.perplexity_ratio.high <= 1.10
text_match.token_f1.change.low > 0     classification.accuracy >= 0.925
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from .errors import Problem
from .evidence import Finding, plain_number

__all__ = ["Gate", "Verdict", "judge", "parse"]

_SUBJECTS = ("base", "tuned", "change", "merged", "reloaded")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True, slots=True)
class Gate:
    """A parsed gate. subject None: tuned, or where that is not measured every subject that is (merged, reloaded)."""

    text: str
    check: str
    metric: str
    subject: str | None
    bound: str
    compare: str
    limit: ast.expr

    @property
    def uses_base(self) -> bool:
        """Whether the base's value stands in the limit."""
        return any(isinstance(node, ast.Name) for node in ast.walk(self.limit))


@dataclass(frozen=True, slots=True)
class Verdict:
    """A gate's outcome: the measured value, the limit, whether it holds, or why that cannot be told."""

    gate: str
    value: float | None
    limit: float | None
    holds: bool
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Values of plain JSON, as `Finding.to_json` gives them."""
        return {name: plain_number(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Verdict:
        """The verdict that `to_json` wrote; keys of a later version are passed over."""
        known = {item.name: value[item.name] for item in fields(cls) if item.name in value}
        known |= {key: float(known[key]) for key in ("value", "limit") if known.get(key) is not None}
        return cls(**known)


def parse(text: str) -> Gate | Problem:
    """A gate from its text, or what is wrong with it."""
    match = re.fullmatch(r"\s*([\w.]+)\s*(>=|<=|>|<)\s*(.+?)\s*", text)
    example = "check.metric[.low|.high] >= number, for example text_match.exact >= base + 0.10"
    if not match:
        return Problem(f"the gate '{text}' cannot be read", None, example)
    left, compare, right = match.groups()
    parts = left.split(".")
    bound = parts.pop() if parts[-1] in ("low", "high") else "value"
    subject = parts.pop() if len(parts) > 2 and parts[-1] in _SUBJECTS else None
    if len(parts) < 2:
        return Problem(f"the gate '{text}' names no metric", None, example)
    try:
        limit = ast.parse(right, mode="eval").body
        known = any(_is_finite(limit, base) for base in (0.0, 0.5, 1.0))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # Python's parser gives up in all four ways
        return Problem(f"'{right}' in the gate '{text}' is no number", None, "numbers, base, + - * / and brackets")
    if not known:
        return Problem(f"'{right}' in the gate '{text}' is infinite, or divides by zero", None, "a finite number")
    return Gate(text, parts[0], ".".join(parts[1:]), subject, bound, compare, limit)


def judge(gate: Gate, findings: Sequence[Finding]) -> Verdict:
    """Holds the gate against the findings; a gate whose finding is missing or undefined does not hold."""
    candidates = [f for f in findings if f.check == gate.check and f.metric == gate.metric and f.group is None]
    if not candidates:
        measured = sorted({f.metric for f in findings if f.check == gate.check})
        return Verdict(
            gate.text, None, None, False, f"not measured; {gate.check} measured {', '.join(measured) or 'nothing'}"
        )
    by_subject = {finding.subject: finding for finding in candidates}
    if gate.subject is not None and gate.subject not in by_subject:
        return Verdict(
            gate.text, None, None, False, f"not measured for {gate.subject}, only for {', '.join(by_subject)}"
        )
    named = gate.subject or ("tuned" if "tuned" in by_subject else None)
    held = [_held(gate, finding, by_subject.get("base")) for finding in candidates if named in (None, finding.subject)]
    return next((verdict for verdict in held if not verdict.holds), held[-1])


def _held(gate: Gate, chosen: Finding, base: Finding | None) -> Verdict:
    value = getattr(chosen, gate.bound)
    if gate.uses_base and base is None:
        return Verdict(gate.text, value, None, False, "base was not measured")
    try:
        limit = _evaluate(gate.limit, base.value if base else 0.0)
    except ZeroDivisionError:
        return Verdict(gate.text, value, None, False, "the limit divides by zero")
    if value is None or value != value or limit != limit:
        return Verdict(gate.text, None, limit, False, f"{gate.bound} is undefined")
    return Verdict(gate.text, value, limit, _COMPARE[gate.compare](value, limit))


def _is_finite(limit: ast.expr, base: float) -> bool:
    try:
        return math.isfinite(_evaluate(limit, base))
    except (ZeroDivisionError, OverflowError):
        return False


def _evaluate(node: ast.expr, base: float) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.Name) and node.id == "base":
        return base
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluate(node.operand, base)
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        return _ARITHMETIC[type(node.op)](_evaluate(node.left, base), _evaluate(node.right, base))
    raise ValueError(ast.dump(node))
