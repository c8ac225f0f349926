"""Steps in which local models say texts anew: encoder-decoders, or causal models that are asked in words.

An encoder-decoder reads the prompt as it is. A causal model with a chat template is asked in a user's turn; without
one, it goes on after the prompt, and its first line counts. Draws belong to the item, whatever it is batched with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ...core.example import Example, Origin, Turn
from .step import Augmenting, Change, Said
from .texts import Job, Refused, kept_whole

if TYPE_CHECKING:
    from ...models.seq2seq import Seq2Seq

__all__ = ["Manner", "Rewrite", "Rewriting", "asker", "load_rewriter"]

Rewrite = Callable[[Sequence[str], Sequence[int]], list[str]]
"""Texts (or prompts) and a seed for each -> what the model made of them."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a model draws: as the field `decoding` of a recipe."""

    temperature: float
    top_p: float
    max_new_tokens: int


class Rewriting(Augmenting):
    """Steps in which a model says a whole text anew, and whose meaning an encoder can compare."""

    encoder: str | None = Field(
        "embedded:minilm", description="a model for the vectors that tell whether the meaning stayed; null: not asked"
    )
    alike: float = Field(
        0.6, ge=-1, le=1, description="smallest cosine of the two texts' vectors; paraphrases mostly have 0.7 or more"
    )

    def said_anew(self, rewrite: Rewrite) -> Change:
        """What rewrites texts and tells why one cannot stand for the old one."""
        embed = None if self.encoder is None else _embedder(self.encoder)

        def change(jobs: Sequence[Job]) -> list[Said]:
            said: list[Said] = [Refused("tags would no longer fit")] * len(jobs)
            free = [place for place, job in enumerate(jobs) if not job.rigid]
            texts = rewrite([jobs[place].text for place in free], [jobs[place].seed for place in free]) if free else []
            for place, text in zip(free, texts, strict=True):
                said[place] = kept_whole(jobs[place], text) or text
            left = [(place, text) for place, text in enumerate(said) if isinstance(text, str)]
            if embed is not None and left:
                old, new = embed([jobs[place].text for place, _ in left]), embed([text for _, text in left])
                for (place, _), cosine in zip(left, np.einsum("nh,nh->n", old, new).tolist(), strict=True):
                    if cosine < self.alike:
                        said[place] = Refused("another meaning")
            return said

        return change


def _embedder(source: str) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """What gives texts vectors of unit length. Errors: as load_embedder."""
    from ...models.embed import load_embedder

    embedder = load_embedder(source)

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        found = embedder.embed(texts)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        unit: NDArray[np.float32] = found / np.maximum(lengths, np.finfo(np.float32).tiny)
        return unit

    return embed


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
