"""Selects the rows whose gradients point where a target file's do: gradient similarity after LESS.

A row's gradient is that of a fresh LoRA on a causal language model, projected at random to a short vector; its score is
the cosine with the mean of the target rows' gradients, each of unit length. The rows with the highest scores stay.
Simpler than LESS in two ways: gradients are plain, without Adam's moments, and taken at one point, the weights of
`model`, not along a warmup (name a run that has warmed up to have its weights). Costs a forward and a backward pass a
row. Give target rows of the kind to be served, never the evaluation set itself. Where no token of a row is learned, it
scores -1.
Errors: as load_model, and as for any file where the target cannot be read.
Source: Xia et al. 2024, LESS (arXiv:2402.04333), section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ...core.contracts import Row, Step, StepContext
from ...core.example import Example
from ...core.recipe import Source
from ..choose import KEEP, count_kept, leave, spread
from ..columnar import batched
from ..read import read

__all__ = ["GradientSimilarity"]

_TOGETHER = 64


class GradientSimilarity(Step):
    """Keeps the rows that teach a model what the target's rows would; scope corpus, train only."""

    scope: ClassVar[Literal["row", "corpus"]] = "corpus"
    splits: ClassVar[Literal["all", "train"]] = "train"
    example: ClassVar[Mapping[str, Any]] = {
        "target": "embedded:general", "targets": 2, "keep": 0.5, "rank": 4, "max_length": 16
    }  # fmt: skip

    target: str = Field(description="rows of the kind that is wanted: a file, a folder, or embedded:NAME")
    keep: float = Field(0.3, gt=0, description=KEEP)
    model: str = Field("embedded:nano", description="the language model whose gradients are compared")
    targets: int = Field(200, ge=1, description="rows of the target that are used, the first ones")
    rank: int = Field(8, ge=1, le=64, description="each layer's gradient becomes rank * rank numbers")
    max_length: int = Field(512, ge=2, description="tokens of a row that are looked at")

    def outside(self) -> Sequence[str]:
        return (self.target,)

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        rows = examples if isinstance(examples, Sequence) else list(examples)
        if not rows:
            return
        wanted = read([Source(path=self.target, limit=self.targets)]).examples
        gradients = self._gradients(context.seed)
        mean = np.mean(gradients(wanted), axis=0)
        length = float(np.linalg.norm(mean))
        scores = np.full(len(rows), -1.0)
        for begin, some in zip(range(0, len(rows), _TOGETHER), batched(rows, _TOGETHER), strict=True):
            own = gradients(some)
            cosines = own @ mean / (length or 1.0)
            scores[begin : begin + len(some)] = np.where(own.any(axis=1), cosines, -1.0)
        kept = np.zeros(len(rows), bool)
        kept[np.argsort(-scores, kind="stable")[: count_kept(self.keep, len(rows))]] = True
        context.facts.update(
            {
                "target": self.target,
                "target rows": len(wanted),
                "model": self.model,
                "agreement of the target's rows": round(length, 6),
                "cosine of rows that stay": spread(scores[kept]),
                "cosine of all rows": spread(scores),
            }
        )
        yield from leave(rows, kept, scores, "not among the rows chosen by gradient", context)

    def _gradients(self, seed: int) -> Callable[[Sequence[Example]], NDArray[np.float32]]:
        """What gives rows' gradients [n, width]: of unit length, or zeros where nothing of a row is learned."""
        from ...models.gradients import Gradients
        from ...models.load import load_model
        from ..encode import Encoding

        loaded = load_model(self.model, "causal_lm")
        model = Gradients(loaded.model, rank=self.rank, seed=seed)
        positions = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", self.max_length)
        encoding = Encoding(loaded.tokenizer, max_length=min(self.max_length, positions))

        def encoded(example: Example) -> list[Row]:
            if "messages" in example.parts:
                return encoding.conversation(example)
            return encoding.document(replace(example, parts={"text": example.text()}))

        def gradients(some: Sequence[Example]) -> NDArray[np.float32]:
            found = model.of([encoded(example) for example in some])
            found /= np.maximum(np.linalg.norm(found, axis=1, keepdims=True), np.finfo(np.float32).tiny)
            return found

        return gradients
