"""What a row asks and what it answers, as words: the form in which rows are held against evaluation sets.

A row's prompt is its texts up to what is learned: user turns, parts like "prompt", "question", "context", "text"; its
answers are the trained turns, parts like "chosen" and "completion", and references in the target. System turns and
tools are left out, since whole data sets share them. Of a prompt of 40 words or more that has an answer, the first and
the last sentence are what is asked, since that is where a question stands, and the rest is the passage; so is one of
the two if it has 40 words itself. A row without an answer is asked part by part.
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
_LEFT_OUT = re.compile(r"tools|rejected(_\d+)?")


@dataclass(frozen=True, slots=True)
class Asked:
    """A row as lists of words.

    prompt: all that it begins with. pieces: what is asked, each to be matched for itself. passage: of a long prompt
    what is none of these, else empty. rest: all of a long prompt but the question. answers: what is learned first,
    then the references; one may be empty. question, answer: what is asked and what is learned, as texts.
    """

    prompt: Words
    pieces: tuple[Words, ...]
    passage: Words
    rest: Words
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
    def short(self) -> Words:
        """What is asked and the answer that is learned, without a passage."""
        return [word for piece in (*self.pieces, *self.answers[:1]) for word in piece]


def asked_of(example: Example) -> Asked:
    """The example's question, passage and answers."""
    prompts, answers = _sides(example)
    told = tuple(words(text) for text in answers)
    parts = [found for text in prompts if (found := words(text))]
    prompt = [word for part in parts for word in part]
    pieces, question = tuple(parts), "\n".join(prompts)
    passage: Words = []
    rest: Words = []
    if told and len(prompt) >= _LONG:
        first, opening, last, question = _edges("\n".join(prompts))
        rest = prompt[: len(prompt) - len(last)]
        pieces, passage = (first, last), rest[len(first) :]
        if len(first) >= _LONG > len(last):  # a passage without a full stop
            pieces, passage = (last,), rest
        elif len(last) >= _LONG > len(first):
            pieces, question = (first,), opening
            passage = rest = prompt[len(first) :]
    elif told and prompt:
        pieces = (prompt,)
    return Asked(prompt, pieces, passage, rest, told, question, answers[0] if answers else "")


def _sides(example: Example) -> tuple[list[str], list[str]]:
    """The texts that a row begins with, and its answers."""
    prompts: list[str] = []
    trained: list[str] = []
    for name, part in example.parts.items():
        if _LEFT_OUT.fullmatch(name):
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


def _edges(text: str) -> tuple[Words, str, Words, str]:
    """The first and the last sentence, each as words and as text."""
    ends = [match.end() for match in _SENTENCE.finditer(text)]
    sentences = [text[begin:end] for begin, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    first: Words = []
    opening = ""
    for sentence in sentences:
        first, opening = first + words(sentence), opening + sentence
        if len(first) >= _FEW:
            break
    last: Words = []
    said = ""
    for sentence in reversed(sentences):
        last, said = words(sentence) + last, sentence + said
        if len(last) >= _FEW:
            break
    return first, opening.strip(), last, said.strip()
