"""The parts of an example that encoding needs, or an error that names what the row has instead."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.component import find, names
from ..core.contracts import Format, Objective
from ..core.errors import DataError
from ..core.example import Example, Turn

__all__ = ["pair_of", "prompt_turns", "refuse_unfit", "text_of", "tokens_of", "tools_of", "turns_of", "wanted_of"]


def refuse_unfit(examples: Sequence[Example], objective: Objective) -> None:
    """Errors: DataError where rows have none of the parts that the objective learns from: the first, and how many."""
    unfit = [example for example in examples if objective.needs.isdisjoint(example.parts)]
    if not unfit:
        return
    first, more = unfit[0], len(unfit) - 1
    kinds = {name: find("objectives", name) for name in names("objectives")}
    able = [
        name for name, kind in kinds.items() if issubclass(kind, Objective) and not kind.needs.isdisjoint(first.parts)
    ]
    formats = {name: find("formats", name) for name in names("formats")}
    fit = [
        name
        for name, kind in formats.items()
        if issubclass(kind, Format) and not objective.needs.isdisjoint(kind().contents(kind.sample)["parts"])
    ]
    raise DataError(
        f"the objective {objective.component_name()} cannot learn from row '{first.id}': it has the parts "
        + (", ".join(first.parts) or "(none)")
        + (f", and {more} more of {len(examples)} rows have none that it knows" if more else ""),
        where=str(first.origin),
        expected=f"rows with the part {' or '.join(sorted(objective.needs))}",
        remedy=f"name the format and the columns that make such rows of these: data.format={fit[0] if fit else 'NAME'}"
        + (f" (or {', '.join(fit[1:])})" if fit[1:] else "")
        + ", data.columns={its key: your column}"
        + (f", or take an objective that learns from these: {', '.join(able)}" if able else ""),
    )


def turns_of(example: Example) -> tuple[Turn, ...]:
    """The conversation. Errors: DataError where there is none."""
    found = example.parts.get("messages")
    if not isinstance(found, tuple) or not found:
        raise DataError(
            f"row '{example.id}' has no conversation (it has {', '.join(example.parts) or 'nothing'})",
            where=str(example.origin),
            expected="the part 'messages'",
            remedy="use an objective for this kind of data, or name the format in data.train",
        )
    return found


def tools_of(example: Example) -> list[Mapping[str, Any]] | None:
    """The tools that the conversation may call: the part "tools" is their JSON. Errors: DataError where it is not."""
    text = example.parts.get("tools")
    if not isinstance(text, str) or not text.strip():
        return None
    try:
        tools = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"the tools of row '{example.id}' are no JSON: {error}",
            where=str(example.origin),
            expected="a list of tool descriptions",
            remedy="mend the row, or leave its tools out",
        ) from error
    return tools if isinstance(tools, list) else [tools]


def prompt_turns(example: Example) -> tuple[Turn, ...]:
    """The turns before the answer: the part "prompt", or a conversation up to its last trained turn; none in a text."""
    found = example.parts.get("prompt")
    if isinstance(found, tuple):
        return found
    if "messages" not in example.parts:
        return ()
    turns = turns_of(example)
    last = max((index for index, turn in enumerate(turns) if turn.trained), default=len(turns))
    return turns[:last]


def wanted_of(example: Example) -> tuple[str, ...]:
    """The reference answers: the chosen answer; the target where it is text; else what the last trained turn says; none
    without these.
    """
    if "prompt" not in example.parts:
        if isinstance(example.target, str):
            return (example.target,)
        if isinstance(example.target, tuple):
            return example.target
    turns = example.parts.get("chosen", example.parts.get("messages"))
    return tuple(turn.content for turn in turns if turn.trained)[-1:] if isinstance(turns, tuple) else ()


def pair_of(example: Example) -> tuple[str, str]:
    """The parts with the better and the worse of two answers: of a ranking the best, and the next that is not as good
    as it, since a tie says nothing of which is better.
    """
    scores = [float(score) for score in example.target] if isinstance(example.target, tuple) else []
    below = next((place for place, score in enumerate(scores) if score < scores[0]), 1)
    return "chosen", "rejected" if below == 1 else f"rejected_{below}"


def text_of(example: Example) -> str:
    """The text. Errors: DataError where there is none."""
    found = example.parts.get("text")
    if not isinstance(found, str):
        raise DataError(
            f"row '{example.id}' has no text (it has {', '.join(example.parts) or 'nothing'})",
            where=str(example.origin),
            expected="the part 'text'",
            remedy="use an objective for this kind of data, or name the format in data.train",
        )
    return found


def tokens_of(example: Example) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of a tagged row, and the tag of each. Errors: DataError where there are none, or they do not fit."""
    found = example.parts.get("tokens")
    if not isinstance(found, str) or not isinstance(example.target, tuple):
        raise DataError(
            f"row '{example.id}' has no tagged tokens (it has {', '.join(example.parts) or 'nothing'})",
            where=str(example.origin),
            expected="the part 'tokens', and a tag for each",
            remedy="use an objective for this kind of data, or name the format in data.train",
        )
    tokens = tuple(found.split(" "))
    if len(tokens) != len(example.target):
        changed = ", ".join(example.origin.steps)
        raise DataError(
            f"row '{example.id}' has {len(tokens)} tokens and {len(example.target)} tags"
            + (f", after the steps {changed}" if changed else ""),
            where=str(example.origin),
            expected="a tag for each token",
            remedy=f"leave {changed} out for tagged rows, or do it before they are cut into tokens"
            if changed
            else "mend the row",
        )
    return tokens, example.target
