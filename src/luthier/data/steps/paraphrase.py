"""Adds variants of rows that say the same in other words, by a local model.

`model` is a causal model that is asked by `prompt`, or an encoder-decoder made for paraphrase, which reads the prompt
as it is ({text} alone, or with the prefix it was trained with). What is no paraphrase is not added: the same words,
other numbers, protected words lost, half or twice as long, or of another meaning by the vectors of `encoder`, whose
limit is `alike`. A vector knows little of negation and of who did what: look at some of what came of it.
Errors: as load_model; ModelError for an encoder-decoder that cannot be loaded; a prompt without {text}. Source: Kumar
et al. 2019, Submodular Optimization-based Diverse Paraphrasing (NAACL), for the use; Dai et al. 2023, AugGPT
(arXiv:2302.13007), for asking a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from ...core.contracts import StepContext
from ...core.example import Example
from ..augment.rewrite import Manner, Rewriting, load_rewriter
from ..augment.step import Change

__all__ = ["Paraphrase"]


class Paraphrase(Rewriting):
    """Scope corpus, train only; tagged tokens get no variants, since tags go with their words."""

    example: ClassVar[Mapping[str, Any]] = {
        "model": "embedded:nano",
        "share": 0.1,
        "max_new_tokens": 16,
        "encoder": None,
    }

    model: str = Field(min_length=1, description="a causal model or an encoder-decoder: a run, a folder or a hub id")
    prompt: str = Field(
        "Say this in other words, and nothing else: {text}",
        pattern=r"\{text\}",
        description="what the model is given; {text} is where the text goes",
    )
    temperature: float = Field(0.7, ge=0, description="0: the most probable words, the same in each variant")
    top_p: float = Field(0.9, gt=0, le=1, description="draws come from the most probable words of this share")
    max_new_tokens: int = Field(128, ge=1, description="longest text that the model may give, in tokens")

    def outside(self) -> Sequence[str]:
        return (self.model,)

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        return self.variants(examples, context, self._changer)

    def _changer(self) -> Change:
        rewrite = load_rewriter(self.model, self.prompt, Manner(self.temperature, self.top_p, self.max_new_tokens))
        return self.said_anew(rewrite)
