"""Classes by a language model's own words, from no row at all: how probable each class's text is in a prompt.

    template: "{text}\\nThis is about {label}."      card_arrival -> log p("card arrival" | text, This is about)

A decoder scores the class's text behind the prompt, an encoder with a masked language model's head at masks in its
place. Scores are means over tokens, so that long names are no worse. What the model thinks of a class whatever the text
says is taken off: it is asked about texts that say nothing (N/A, [MASK], the empty text), and a bias makes their
classes equally probable. Training rows only name the classes (the step `class_texts` leaves no other). For a language
model that is large enough to know what the classes mean; of an encoder of texts, the nearest class text is better
(`class_texts`). Source: Brown et al. 2020 (arXiv:2005.14165), section 2.4; Zhao et al. 2021 (arXiv:2102.09690), section
5; Schick and Schuetze 2021 (arXiv:2001.07676). Errors: ModelError for a model without an output layer over words, and
for merge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from pydantic import Field, field_validator

from ..core.contracts import Adaptation, Batch, ParameterGroup, Role
from ..core.errors import Problem
from ..core.label_words import TEMPLATE, Words, checked_template, not_mergeable, problems_of_words

if TYPE_CHECKING:
    from torch import nn

    from ..core.recipe import Phase, Recipe

__all__ = ["ZeroShot"]


class ZeroShot(Adaptation):
    """Nothing is trained; a bias for each class is found without a row."""

    example: ClassVar[dict[str, Any]] = {"template": "{text} It was {label}.", "score": "sum"}
    usual_lr: ClassVar[float] = 1e-3
    solved: ClassVar[bool] = True
    fits: ClassVar[bool] = False
    words: ClassVar[bool] = True

    template: str = Field(TEMPLATE, description="the prompt, with {text} and {label}; a decoder reads up to {label}")
    texts: dict[str, Words] = Field(
        default_factory=dict, description="what stands for a class, by its name; default: its name in words"
    )
    score: Literal["mean", "sum"] = Field("mean", description="of the log-probabilities of a class's tokens")
    calibration: Literal["content_free", "none"] = Field(
        "content_free", description="what texts that say nothing are told to be is taken off, or nothing is"
    )

    @field_validator("template")
    @classmethod
    def _marked(cls, template: str) -> str:
        return checked_template(template)

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterator[Problem]:
        yield from problems_of_words("zero_shot", recipe, phase)

    def apply(self, model: nn.Module) -> nn.Module:
        from ..models.label_words import Prompt
        from ..models.label_words_files import over

        return over(model, Prompt(self.template, self.texts, self.score))

    def furnish(self, model: nn.Module, tokenizer: Any) -> None:
        adapted: Any = model
        adapted.furnish(tokenizer)

    def solve(self, role: Role, batches: Iterable[Batch]) -> None:
        model: Any = role.model
        if self.calibration == "content_free":
            model.calibrate()

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        adapted: Any = model
        return [ParameterGroup("bias", [("bias", adapted.bias)])]

    def save(self, model: nn.Module, folder: Path) -> None:
        """`trained.safetensors` with the bias."""
        from ..models.label_words_files import save

        save(model, folder, "zero_shot")

    def load(self, model: nn.Module, folder: Path) -> None:
        from ..models.label_words_files import load

        load(model, folder)

    def merge(self, model: nn.Module) -> NoReturn:
        raise not_mergeable("zero_shot")
