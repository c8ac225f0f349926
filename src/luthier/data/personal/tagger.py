"""Names, organizations, places and addresses by a token classification model in a folder.

The labels are BIO or BIOES, as transformers saves them (id2label); PER, ORG, LOC and their usual longer names are
known. A word (data/tagged/words.py) is judged at its first token, as taggers are trained; a mark beside a name is
another word. Text that is longer than the model's window is read in windows that overlap by half.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ...core.errors import ModelError, first_line
from ..tagged.words import words_in
from .spans import Span

__all__ = ["KINDS", "Tagger"]

KINDS = {
    **dict.fromkeys(("PER", "PERSON", "NAME"), "person"),
    **dict.fromkeys(("ORG", "ORGANIZATION", "CORPORATION", "COMPANY"), "organization"),
    **dict.fromkeys(("LOC", "LOCATION", "GPE", "PLACE"), "place"),
    **dict.fromkeys(("ADDRESS", "STREET_ADDRESS"), "address"),
}
"""A label's name, without B- and I-, by our kind; other labels are left."""
_WINDOW = 512


@dataclass(frozen=True)
class Tagger:
    """A model's spans (spans.Finder); the certainty is the mean probability of their tokens' labels."""

    folder: Path
    kinds: frozenset[str] = field(default=frozenset(KINDS.values()))

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModelForTokenClassification, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
            model, told = AutoModelForTokenClassification.from_pretrained(
                self.folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            if told["missing_keys"]:
                raise ValueError(f"it lacks {', '.join(sorted(told['missing_keys']))}")
        except (OSError, ValueError) as error:
            raise ModelError(
                f"no model that tags tokens can be loaded: {first_line(error)}",
                where=str(self.folder),
                expected="a folder with a token classification model and its tokenizer",
            ) from error
        labels = [name.partition("-")[2].upper() for name in model.config.id2label.values()]
        if not any(KINDS.get(label) for label in labels):
            raise ModelError(
                "the model's labels name no kind of personal data",
                where=str(self.folder),
                expected="BIO labels of " + ", ".join(sorted(KINDS)),
            )
        return tokenizer, model.eval()

    def find(self, text: str) -> list[Span]:
        """The spans of the text. Errors: ModelError for a folder without such a model."""
        if not text.strip():
            return []
        labels = _of_words(words_in(text), self._labels(text))
        said = (span for span in _spans(labels) if span.kind in self.kinds)
        return [span for span in said if any(map(str.isalnum, text[span.start : span.end]))]

    def _labels(self, text: str) -> list[tuple[int, int, str, float]]:
        """Start, end, label and probability of each token; of tokens in two windows the first reading counts."""
        import torch

        tokenizer, model = self._loaded
        length = min(_WINDOW, getattr(model.config, "max_position_embeddings", _WINDOW))
        encoded = tokenizer(
            text,
            truncation=True,
            max_length=length,
            stride=length // 2,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        read: dict[tuple[int, int], tuple[int, int, str, float]] = {}
        for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            with torch.inference_mode():
                chances = model(input_ids=torch.tensor([ids])).logits[0].softmax(-1)
            best = chances.max(-1)
            for (start, end), label, chance in zip(offsets, best.indices.tolist(), best.values.tolist(), strict=True):
                if end > start:
                    read.setdefault((start, end), (start, end, model.config.id2label[label], chance))
        return sorted(read.values())


def _of_words(
    words: Sequence[tuple[int, int]], labels: Sequence[tuple[int, int, str, float]]
) -> Iterator[tuple[int, int, str, float]]:
    """Start, end, label and probability of each word, by its first token; words without a token are left out."""
    tokens = iter(labels)
    token = next(tokens, None)
    for start, end in words:
        while token is not None and token[0] < start:
            token = next(tokens, None)
        if token is not None and token[0] < end:
            yield start, end, token[2], token[3]


def _spans(labels: Iterable[tuple[int, int, str, float]]) -> Iterator[Span]:
    """Runs of one kind's words as spans: B-, and S- and U- of other markings, open one; others of the kind go on."""
    start = end = 0
    kind, chances = "", [0.0]
    for begin, stop, label, chance in labels:
        mark, _, name = label.partition("-")
        own = KINDS.get(name.upper(), "")
        if kind and own == kind and mark not in ("B", "S", "U"):
            end = stop
            chances.append(chance)
        else:
            if kind:
                yield Span(start, end, kind, sum(chances) / len(chances))
            start, end, kind, chances = begin, stop, own, [chance]
    if kind:
        yield Span(start, end, kind, sum(chances) / len(chances))
