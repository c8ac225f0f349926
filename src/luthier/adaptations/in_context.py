"""Classes by a language model's own words, after the training rows that are most like the text: nothing is trained.

    text of a near row            the `examples` nearest rows of the training data, the nearest last
    This is about its class.

    the text                      scored for each class: the mean log-probability of its tokens
    This is about ...

Rows are near by the cosine of an encoder's vectors (`by`), or of the mean of the language model's own states; a row
that says the same as the text is none of its examples. What does not fit the model's context loses the farthest. The
rows lie beside the model, texts and vectors, wherever it goes. For decoders. Source: Brown et al. 2020
(arXiv:2005.14165); Liu et al. 2022 (arXiv:2101.06804), section 3. Errors: ModelError for an encoder, and for merge.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from pydantic import Field, field_validator

from ..core.contracts import Adaptation, Batch, ParameterGroup, Role
from ..core.errors import ModelError, Problem
from ..core.label_words import TEMPLATE, Words, checked_template, not_mergeable, problems_of_words

if TYPE_CHECKING:
    from torch import nn

    from ..core.recipe import Phase, Recipe

__all__ = ["InContext"]


class InContext(Adaptation):
    """The training rows are kept with their vectors; those nearest to a text come before it."""

    example: ClassVar[dict[str, Any]] = {"examples": 2, "template": "{text} = {label}"}
    usual_lr: ClassVar[float] = 1e-3
    solved: ClassVar[bool] = True
    fits: ClassVar[bool] = False
    words: ClassVar[bool] = True

    examples: int = Field(8, ge=1, description="rows that come before a text")
    by: str | None = Field(
        None,
        min_length=1,
        description="the encoder that tells what is near, such as embedded:minilm; default: the model's own states",
    )
    template: str = Field(
        TEMPLATE, description="the prompt of a row, with {text} and {label}; the text's ends at {label}"
    )
    texts: dict[str, Words] = Field(
        default_factory=dict, description="what stands for a class, by its name; default: its name in words"
    )
    score: Literal["mean", "sum"] = Field("mean", description="of the log-probabilities of a class's tokens")

    @field_validator("template")
    @classmethod
    def _marked(cls, template: str) -> str:
        return checked_template(template)

    def sources(self) -> Sequence[str]:
        return () if self.by is None else (self.by,)

    def problems(self, recipe: Recipe, phase: Phase | None) -> Iterator[Problem]:
        yield from problems_of_words("in_context", recipe, phase)

    def apply(self, model: nn.Module) -> nn.Module:
        from ..models.label_words import Prompt
        from ..models.label_words_files import over

        found = over(model, Prompt(self.template, self.texts, self.score, self.examples, self.by))
        if found.reader.masked:
            raise ModelError(
                f"{type(model).__name__} is an encoder, which does not go on from examples",
                expected="a decoder",
                remedy="take zero_shot, or a decoder such as embedded:nano",
            )
        return found

    def furnish(self, model: nn.Module, tokenizer: Any) -> None:
        adapted: Any = model
        adapted.furnish(tokenizer)

    def solve(self, role: Role, batches: Iterable[Batch]) -> None:
        model: Any = role.model
        texts: list[str] = []
        classes: list[int] = []
        for batch in batches:
            cuts = batch.starts.tolist()
            for row, weight in enumerate(batch.weights.tolist()):
                if weight > 0:
                    texts.append(model.reader.spelled(batch.ids[cuts[row] : cuts[row + 1]]))
                    classes.append(int(batch.fields["label"][row]))
        model.remember(texts, classes)

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        named = [(name, value) for name, value in model.named_parameters() if name == "reader.bank.vectors"]
        return [ParameterGroup("bank", named)]

    def save(self, model: nn.Module, folder: Path) -> None:
        """`trained.safetensors` with the rows' vectors, and `examples.json` with their texts and classes."""
        from ..models.label_words_files import save

        save(model, folder, "in_context")

    def load(self, model: nn.Module, folder: Path) -> None:
        from ..models.label_words_files import load

        load(model, folder)

    def merge(self, model: nn.Module) -> NoReturn:
        raise not_mergeable("in_context")
