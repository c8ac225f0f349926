"""Adds variants of rows that were translated into another language and back, by two local models.

`forth` and `back` are encoder-decoders for one direction each (Marian's are small and good), or causal models that
`forth_prompt` and `back_prompt` ask. Sampling, here on the way forth, gives more varied text than the best translation
does. What is no paraphrase is not added: the same words, other numbers, protected words lost, half or twice as long, or
of another meaning by the vectors of `encoder`, whose limit is `alike`.
Errors: as load_model; ModelError for an encoder-decoder that cannot be loaded or knows many languages; a prompt without
{text}. Source: Sennrich et al. 2016 (arXiv:1511.06709); for augmentation Yu et al. 2018 (arXiv:1804.09541), section 3;
sampling after Edunov et al. 2018 (arXiv:1808.09381).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from ...core.contracts import StepContext
from ...core.example import Example
from ..augment.rewrite import Manner, Rewriting, load_rewriter
from ..augment.step import Change

__all__ = ["BackTranslation"]

_TEXT = r"\{text\}"


class BackTranslation(Rewriting):
    """Scope corpus, train only; tagged tokens get no variants, since tags go with their words."""

    example: ClassVar[Mapping[str, Any]] = {
        "forth": "embedded:nano",
        "back": "embedded:nano",
        "forth_prompt": "Translate into German: {text}",
        "back_prompt": "Translate into English: {text}",
        "share": 0.1,
        "max_new_tokens": 16,
        "encoder": None,
    }

    forth: str = Field(min_length=1, description="the model for the way there: a folder, a run or a hub id")
    back: str = Field(min_length=1, description="the model for the way back")
    forth_prompt: str = Field("{text}", pattern=_TEXT, description="what the first model is given")
    back_prompt: str = Field("{text}", pattern=_TEXT, description="what the second model is given")
    temperature: float = Field(0.8, ge=0, description="of the way there; the way back takes the most probable words")
    top_p: float = Field(0.9, gt=0, le=1, description="draws come from the most probable words of this share")
    max_new_tokens: int = Field(128, ge=1, description="longest text that a model may give, in tokens")

    def outside(self) -> Sequence[str]:
        return (self.forth, self.back)

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        return self.variants(examples, context, self._changer)

    def _changer(self) -> Change:
        forth = load_rewriter(self.forth, self.forth_prompt, Manner(self.temperature, self.top_p, self.max_new_tokens))
        back = load_rewriter(self.back, self.back_prompt, Manner(0.0, 1.0, self.max_new_tokens))

        def rewrite(texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
            there = forth(texts, seeds)
            said = [place for place, text in enumerate(there) if text.strip()]
            found = [""] * len(texts)
            back_again = back([there[place] for place in said], [seeds[place] for place in said]) if said else []
            for place, text in zip(said, back_again, strict=True):
                found[place] = text
            return found

        return self.said_anew(rewrite)
