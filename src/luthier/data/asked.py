"""What a row asks and what it answers, as words: the form in which rows are held against evaluation sets.

A row's prompt is its texts up to what is learned: user turns, parts like "prompt", "question", "context", "text"; its
answers are the trained turns, parts like "chosen" and "completion", and references in the target. System turns and
tools are left out, since whole data sets share them. Of a prompt of 40 words or more that has an answer, the first and
the last sentence are what is asked, since that is where a question stands, and the rest is the passage. A row without
an answer is asked part by part.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..core.example import Example
from ..functional.overlap import Words, words

__all__ = ["Asked", "asked_of"]

_LONG = 40
"""Words from which on a prompt has a passage."""
_FEW = 4
"""Words that a first or last sentence has at least: shorter ones are taken with their neighbor."""
_SENTENCE = re.compile(r"[.!?…][\"'”’»)\]]*\s+|[\n。！？]+")
_ANSWERS = ("chosen", "completion", "answer")
_LEFT_OUT = ("rejected", "tools")


@dataclass(frozen=True, slots=True)
class Asked:
    """A row as lists of words.

    prompt: all that it begins with. pieces: what is asked, each to be matched for itself. passage: the rest of a long
    prompt, else empty. answers: what is learned first, then the references. said: question and answer as text.
    """

    prompt: Words
    pieces: tuple[Words, ...]
    passage: Words
    answers: tuple[Words, ...]
    question: str
    answer: str

    @property
    def said(self) -> str:
        """Question and answer as one text."""
        return f"{self.question}\n{self.answer}".strip()

    @property
    def whole(self) -> Words:
        """The prompt and the answer that is learned."""
        return self.prompt + (self.answers[0] if self.answers else [])

    @property
    def lead(self) -> Words:
        """The prompt up to the question; empty where the question is all of it."""
        return self.prompt[: len(self.prompt) - len(self.pieces[-1])] if self.answers and len(self.pieces) == 2 else []

    @property
    def short(self) -> Words:
        """What is asked and the answer that is learned, without a passage."""
        return [word for piece in (*self.pieces, *self.answers[:1]) for word in piece]


def asked_of(example: Example) -> Asked:
    """The example's question, passage and answers."""
    prompts, answers = _sides(example)
    told = tuple(words(text) for text in answers)
    parts = [found for text in prompts if (found := words(text))]
    prompt = [word for part in parts for word in part]
    pieces, passage, question = tuple(parts), [], "\n".join(prompts)
    if told and len(prompt) >= _LONG:
        first, last, question = _edges("\n".join(prompts))
        pieces, passage = (first, last), prompt[len(first) : len(prompt) - len(last)]
    elif told and prompt:
        pieces = (prompt,)
    return Asked(prompt, pieces, passage, told, question, answers[0] if answers else "")


def _sides(example: Example) -> tuple[list[str], list[str]]:
    """The texts that a row begins with, and its answers."""
    prompts: list[str] = []
    trained: list[str] = []
    for name, part in example.parts.items():
        if name in _LEFT_OUT:
            continue
        if isinstance(part, str):
            (trained if name in _ANSWERS else prompts).append(part)
            continue
        for turn in part:
            if turn.trained or name in _ANSWERS:
                trained.append(turn.content)
            elif turn.role != "system":
                prompts.append(turn.content)
    references = example.target if isinstance(example.target, tuple) else ()
    return prompts, list(dict.fromkeys([*(["\n".join(trained)] if trained else []), *references]))


def _edges(text: str) -> tuple[Words, Words, str]:
    """The words of the first and of the last sentence, and the last as text."""
    ends = [match.end() for match in _SENTENCE.finditer(text)]
    sentences = [text[begin:end] for begin, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    first: Words = []
    for sentence in sentences:
        first = first + words(sentence)
        if len(first) >= _FEW:
            break
    last: Words = []
    said = ""
    for sentence in reversed(sentences):
        last, said = words(sentence) + last, sentence + said
        if len(last) >= _FEW:
            break
    return first, last, said.strip()
