"""Local models that say texts anew: encoder-decoders, or causal models that are asked in words.

An encoder-decoder reads the prompt as it is. A causal model with a chat template is asked in a user's turn; without
one, it goes on after the prompt, and its first line counts. Draws belong to the item, whatever it is batched with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...core.example import Example, Origin, Turn
from .step import Said
from .texts import Job, Refused, kept_whole

if TYPE_CHECKING:
    from ...models.seq2seq import Seq2Seq

__all__ = ["Manner", "Rewrite", "asker", "load_rewriter", "said_anew"]

Rewrite = Callable[[Sequence[str], Sequence[int]], list[str]]
"""Texts (or prompts) and a seed for each -> what the model made of them."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a model draws: as the field `decoding` of a recipe."""

    temperature: float
    top_p: float
    max_new_tokens: int


def said_anew(jobs: Sequence[Job], rewrite: Rewrite) -> list[Said]:
    """Each text as it was rewritten, or why it cannot stand for the old one."""
    free = [job for job in jobs if not job.rigid]
    texts = iter(rewrite([job.text for job in free], [job.seed for job in free]) if free else ())
    return [Refused("tags would no longer fit") if job.rigid else _judged(job, next(texts)) for job in jobs]


def _judged(job: Job, said: str) -> Said:
    return kept_whole(job, said) or said


def load_rewriter(source: str, prompt: str, manner: Manner) -> Rewrite:
    """What says texts anew with the model that `source` names; the text goes where `prompt` has {text}.

    Errors: ModelError as load_model and load_seq2seq.
    """
    from ...models.seq2seq import is_seq2seq, load_seq2seq

    ask = _through(load_seq2seq(source), manner) if is_seq2seq(source) else asker(source, manner)
    return lambda texts, seeds: ask([prompt.replace("{text}", text) for text in texts], seeds)


def _through(model: Seq2Seq, manner: Manner) -> Rewrite:
    def rewrite(prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        return model.rewrite(
            prompts,
            temperature=manner.temperature,
            top_p=manner.top_p,
            seeds=seeds,
            max_new_tokens=manner.max_new_tokens,
        )

    return rewrite


def asker(source: str, manner: Manner) -> Rewrite:
    """What asks a causal model; each prompt is the text of a question. Errors: as load_model."""
    from ...models.generate import generate
    from ...models.load import load_model
    from ..encode import Encoding

    loaded = load_model(source, "causal_lm")
    positions = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None) or 2048
    encoding = Encoding(loaded.tokenizer, max_length=max(int(positions), 2))
    chat = bool(loaded.tokenizer.chat_template)
    reserve = min(manner.max_new_tokens, encoding.max_length // 2)

    def ask(prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        answers = generate(
            loaded.model,
            [encoding.prompt(_asked(prompt, chat), reserve=reserve) for prompt in prompts],
            stop=encoding.stop,
            pad=loaded.tokenizer.pad_token_id,
            max_new_tokens=manner.max_new_tokens,
            temperature=manner.temperature,
            top_p=manner.top_p,
            seeds=seeds,
        )
        said = [str(loaded.tokenizer.decode(answer, skip_special_tokens=True)).strip() for answer in answers]
        return said if chat else [text.partition("\n")[0].strip() for text in said]

    return ask


def _asked(prompt: str, chat: bool) -> Example:
    parts: dict[str, Any] = {"messages": (Turn("user", prompt),)} if chat else {"text": prompt}
    return Example("asked", parts, Origin("asked", 1))
