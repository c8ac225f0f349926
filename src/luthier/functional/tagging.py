"""Tags of words as spans: BIO and BIOES, the spans they mark, and the best tags that make sense together.

A span is (kind, begin, end) in words, end exclusive. Tags other than O that have no prefix (parts of speech) mark no
span. Source: Ramshaw and Marcus 1995 (BIO); Ratinov and Roth 2009 (BIOES, there BILOU); Viterbi 1967.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scheme", "Span", "as_bio", "as_bioes", "best_path", "follows", "kinds_of", "labels_of", "spans_of"]

Scheme = Literal["bio", "bioes"]
Span = tuple[str, int, int]
Floats = NDArray[np.float64]

_MARKED = re.compile(r"([BIES])-(.+)")
_PREFIXES: dict[str, str] = {"bio": "BI", "bioes": "BIES"}


def kinds_of(tags: Iterable[str]) -> list[str] | None:
    """The kinds of the spans that tags mark, sorted; None where no tag marks one, so that each tag is a class."""
    found = {match[2] for tag in tags if (match := _MARKED.fullmatch(tag))}
    return sorted(found) or None


def labels_of(kinds: Sequence[str], scheme: Scheme) -> list[str]:
    """O, then every tag of each kind: also those that no row has yet, so that a longer span can be named."""
    return ["O", *(f"{prefix}-{kind}" for kind in kinds for prefix in _PREFIXES[scheme])]


def spans_of(tags: Sequence[str]) -> list[Span]:
    """The spans of BIO or BIOES tags as conlleval reads them: one that goes on with nothing, or another kind, opens."""
    found: list[Span] = []
    begin, kind = 0, ""
    for place, tag in enumerate([*tags, "O"]):
        prefix, of = (match[1], match[2]) if (match := _MARKED.fullmatch(tag)) else ("O", "")
        if kind and (prefix in "BSO" or of != kind):
            found.append((kind, begin, place))
            kind = ""
        if of and not kind:
            begin, kind = place, of
        if prefix in "ES":
            found.append((kind, begin, place + 1))
            kind = ""
    return found


def as_bio(tags: Sequence[str]) -> list[str]:
    """The same spans in BIO."""
    made = ["O"] * len(tags)
    for kind, begin, end in spans_of(tags):
        made[begin:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - begin - 1)]
    return made


def as_bioes(tags: Sequence[str]) -> list[str]:
    """The same spans in BIOES: S alone, else B, I and E at the end."""
    made = ["O"] * len(tags)
    for kind, begin, end in spans_of(tags):
        size = end - begin
        made[begin:end] = [f"S-{kind}"] if size == 1 else [f"B-{kind}", *[f"I-{kind}"] * (size - 2), f"E-{kind}"]
    return made


def follows(before: str | None, tag: str | None, scheme: Scheme) -> bool:
    """Whether a tag may come after another; None: the begin, or the end, of a text."""
    left, right = _split(before), _split(tag)
    inside = left[0] in "BI"
    if right[0] in "IE":
        return inside and left[1] == right[1]
    return scheme == "bio" or not inside  # in BIOES a span must come to its end


def best_path(logps: Floats, labels: Sequence[str], scheme: Scheme) -> list[int]:
    """The labels, as numbers, of the likeliest sequence among those that `follows` allows, from [words, labels]
    log-probabilities that know nothing of each other. Of equals the one with the lower numbers.
    """
    if not len(logps):
        return []
    barred = np.array([[0.0 if follows(a, b, scheme) else -np.inf for b in labels] for a in labels])
    best = logps[0] + [0.0 if follows(None, tag, scheme) else -np.inf for tag in labels]
    came: list[NDArray[np.intp]] = []
    for word in logps[1:]:
        through = best[:, None] + barred
        came.append(through.argmax(axis=0))
        best = through.max(axis=0) + word
    best = best + [0.0 if follows(tag, None, scheme) else -np.inf for tag in labels]
    path = [int(best.argmax())]
    for steps in reversed(came):
        path.append(int(steps[path[-1]]))
    return path[::-1]


def _split(tag: str | None) -> tuple[str, str]:
    match = _MARKED.fullmatch(tag) if tag is not None else None
    return (match[1], match[2]) if match else ("O", "")
