"""Rankings of several answers to one prompt, by a score for each.

The prompt is `prompt`, `instruction` or `question`, the answers a list `responses`, `completions` or `answers`, of
texts, of lists of messages or of objects with `text`, `response` or `content`; beside them as many numbers in `scores`
or `ratings` (higher is better) or `ranks` (1 is the best), or a number in each object. They are put in order, the best
first; equal scores are ties. Errors: ValueError for empty prompts and answers, fewer than two answers, and scores that
do not go with them. Source: the completions of UltraFeedback (Cui et al. 2023, arXiv:2310.01377); rankings as in Ouyang
et al. 2022 (arXiv:2203.02155).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ...core.contracts import Format
from ...core.example import Part, Turn
from ..messages import first_key, prompt_of, turns_in
from ..turns import conversation, named, text_of

__all__ = ["Rankings"]

_PROMPTS = ("prompt", "instruction", "question")
_ANSWERS = ("responses", "completions", "answers")
_TEXTS = ("text", "response", "content")
_SCORES = ("scores", "ratings")
_SCORE = ("score", "rating", "overall_score")


class Rankings(Format):
    """Reads the answers into turns: chosen the best, rejected next, then rejected_2 and so on; the target: scores."""

    example: ClassVar[Mapping[str, Any]] = {}
    sample: ClassVar[Mapping[str, Any]] = {
        "prompt": "Is it late?",
        "responses": ["Late is a word of four letters.", "Yes, it is past ten.", "Yes."],
        "scores": [1, 5, 4],
    }

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        key = first_key(record, _ANSWERS)
        answers = record[key] if key else None
        if not isinstance(answers, (list, tuple)) or len(answers) < 2 or not first_key(record, _PROMPTS):
            return False
        inside = all(isinstance(answer, Mapping) and first_key(answer, _SCORE) for answer in answers)
        return inside or any(isinstance(record.get(name), (list, tuple)) for name in (*_SCORES, "ranks"))

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        prompt = prompt_of(record, first_key(record, _PROMPTS) or "prompt")
        key = first_key(record, _ANSWERS) or "responses"
        answers = record.get(key)
        if not isinstance(answers, (list, tuple)) or len(answers) < 2:
            raise ValueError(f"missing answers: {key} is {named(answers)}, not a list of two or more")
        scores = _scores(record, answers)
        order = sorted(range(len(answers)), key=lambda place: -scores[place])
        parts: dict[str, Part] = {"prompt": prompt}
        for place, number in enumerate(order):
            answer = _turns(answers[number], f"answer {number + 1}")
            conversation([*prompt, *answer])
            parts["chosen" if place == 0 else "rejected" if place == 1 else f"rejected_{place}"] = answer
        return {"parts": parts, "target": tuple(f"{scores[number]:g}" for number in order)}


def _turns(answer: Any, name: str) -> tuple[Turn, ...]:
    if isinstance(answer, (list, tuple)):
        return turns_in(answer, name)
    if isinstance(answer, Mapping):
        answer = answer.get(first_key(answer, _TEXTS) or "text")
    return (Turn("assistant", text_of(answer, name)),)


def _scores(record: Mapping[str, Any], answers: Sequence[Any]) -> list[float]:
    """A number for each answer, higher is better."""
    key = first_key(record, (*_SCORES, "ranks"))
    if key is None:
        given = [answer.get(first_key(answer, _SCORE) or "") for answer in answers if isinstance(answer, Mapping)]
    else:
        given = list(record[key]) if isinstance(record[key], (list, tuple)) else []
    if len(given) != len(answers):
        raise ValueError(f"missing scores: {len(given)} for {len(answers)} answers")
    try:
        numbers = [float(str(score)) for score in given]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"wrong type: the scores are {named(given)}, not all numbers") from error
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"wrong type: the scores are {named(given)}, not all finite")
    if len(set(numbers)) < 2:
        raise ValueError("no preference: all answers have one score")
    return [-number for number in numbers] if key == "ranks" else numbers
