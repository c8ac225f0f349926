"""Puts a teacher's answers in place of the rows' own: distillation of whole sequences.

The model is given each conversation up to its last answer and writes another; the student then learns that. Since only
text passes, the two may have different tokenizers. An answer that is empty, that had not ended after max_new_tokens, or
that is too far from the row's own (`like`) is no lesson: the row is dropped, with the reason. With one greedy answer in
place of the paper's beam. Source: Kim and Rush 2016, Sequence-Level Knowledge Distillation (arXiv:1606.07947), section
3.2, and 3.3 for `like`; ROUGE-L: Lin 2004. Errors: as load_model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.example import Example
from ...functional.overlap import Sought, words
from ..augment.draws import seed_of

__all__ = ["TeacherAnswers"]

_TOGETHER = 64
"""Conversations that are answered at once."""
Answering = Callable[[Sequence[Example], Sequence[int]], list[tuple[str, bool]]]
"""Conversations and a seed for each -> an answer, and whether it ended by itself."""


class TeacherAnswers(Step):
    """Answers conversations anew, train only; other rows pass as they are."""

    scope: ClassVar[Literal["row", "corpus"]] = "row"
    splits: ClassVar[Literal["all", "train"]] = "train"
    example: ClassVar[Mapping[str, Any]] = {"model": "embedded:nano", "max_new_tokens": 12}

    model: str = Field(min_length=1, description="the teacher, a causal model: a run, a folder or a hub id")
    like: float = Field(0.0, ge=0, le=1, description="smallest ROUGE-L with the row's own answer; 0 asks for none")
    temperature: float = Field(0.0, ge=0, description="0 takes the most probable words")
    top_p: float = Field(1.0, gt=0, le=1, description="draws come from the most probable words of this share")
    max_new_tokens: int = Field(256, ge=1, description="longest answer, in tokens; one that goes on is dropped")

    def outside(self) -> Sequence[str]:
        return (self.model,)

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        answering: Answering | None = None
        rows = iter(examples)
        while some := list(islice(rows, _TOGETHER)):
            asked = [example for example in some if _answered(example)]
            if asked and answering is None:
                answering = _answerer(self.model, self.temperature, self.top_p, self.max_new_tokens)
            seeds = [seed_of(context.seed, "teacher_answers", example.id) for example in asked]
            said = iter(answering(asked, seeds) if answering is not None and asked else ())
            for example in some:
                if not _answered(example):
                    yield example
                    continue
                answer, ended = next(said)
                reason = self._unfit(example, answer, ended)
                if reason is not None:
                    context.ledger.drop(example, reason)
                    continue
                changed = _with(example, answer)
                context.ledger.change(example, changed, "answered by the teacher")
                yield changed

    def _unfit(self, example: Example, answer: str, ended: bool) -> str | None:
        if not answer:
            return "the teacher gave no answer"
        if not ended:
            return f"the teacher's answer had not ended after {self.max_new_tokens} tokens"
        own, new = words(_last(example)), words(answer)
        if self.like * (len(own) + len(new)) > 2 * Sought(own).common(new):
            return "the teacher's answer is too far from the row's own"
        return None


def _answerer(source: str, temperature: float, top_p: float, most: int) -> Answering:
    """What answers conversations with a causal model. Errors: as load_model."""
    from ...models.generate import generate
    from ...models.load import load_model
    from ...models.prompt import text_room
    from ..encode import Encoding

    loaded = load_model(source, "causal_lm")
    positions = text_room(loaded.model)
    encoding = Encoding(loaded.tokenizer, max_length=max(positions or 2048, 2))

    def answering(examples: Sequence[Example], seeds: Sequence[int]) -> list[tuple[str, bool]]:
        prompts = [encoding.prompt(example, reserve=min(most, encoding.max_length // 2)) for example in examples]
        answers = generate(
            loaded.model,
            prompts,
            stop=encoding.stop,
            pad=loaded.tokenizer.pad_token_id,
            max_new_tokens=most,
            temperature=temperature,
            top_p=top_p,
            seeds=seeds,
        )
        texts = [str(loaded.tokenizer.decode(answer, skip_special_tokens=True)).strip() for answer in answers]
        # What ended by itself is shorter by its stop token.
        rooms = [_room(len(prompt), most, positions) for prompt in prompts]
        ended = [len(answer) < room for room, answer in zip(rooms, answers, strict=True)]
        return list(zip(texts, ended, strict=True))

    return answering


def _room(prompt: int, most: int, positions: int | None) -> int:
    """Tokens that an answer may come to have: the positions that its prompt leaves, which has half at the most."""
    return most if positions is None else min(most, max(positions - prompt, positions // 2))


def _answered(example: Example) -> bool:
    """Whether it is a conversation whose last turn is an answer that is learned."""
    turns = example.parts.get("messages")
    return isinstance(turns, tuple) and len(turns) > 1 and turns[-1].role == "assistant" and turns[-1].trained


def _last(example: Example) -> str:
    turns = example.parts["messages"]
    assert isinstance(turns, tuple)
    return turns[-1].content


def _with(example: Example, answer: str) -> Example:
    turns = example.parts["messages"]
    assert isinstance(turns, tuple)
    last = replace(turns[-1], content=answer)
    origin = replace(example.origin, steps=(*example.origin.steps, "teacher_answers"), synthetic=True)
    return replace(example, parts={**example.parts, "messages": (*turns[:-1], last)}, origin=origin)
