"""Finds toxic rows, by a lexicon and, where a model folder is given, by a classifier; notes or drops them.

Lexicon: a small one, with weights and five categories; a row's score is that of its worst passage of a hundred words.
Classifier: a sequence classification model in safetensors; a row's score is the highest probability of a toxic label
over windows of the model's length. It takes the lexicon's place. Units: scores from 0 to 1. Facts: how many rows were
toxic, by category. Errors: ModelError for a folder that holds no such model or no label that is known as toxic. Source:
the lexicon is our own; its categories are those of Jigsaw's comment data, 2018.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.errors import ModelError
from ...core.example import Example
from ..text.toxicity import toxicity

__all__ = ["Toxicity"]

_Score = tuple[float, tuple[str, ...]]
"""How toxic a text is, and in which categories."""

_TOXIC = re.compile(
    r"\b(?:toxic\w*|hat(?:e|eful)|offensive\w*|obscene|insult\w*|threat\w*|abus\w+|profan\w+"
    r"|identity attack|sexual\w*|harass\w*)\b",
    re.IGNORECASE,
)
_NOT = re.compile(r"\b(?:no|not|non)\b", re.IGNORECASE)


class Toxicity(Step):
    """Judges one row at a time; scope row."""

    scope: ClassVar[Literal["row", "corpus"]] = "row"
    example: ClassVar[Mapping[str, Any]] = {"threshold": 0.5, "action": "drop"}

    threshold: float = Field(0.6, gt=0, le=1, description="the score from which a row is toxic")
    action: Literal["note", "drop"] = Field("note", description="what happens to a toxic row")
    judge: Literal["all", "learned"] = Field("all", description="whole rows, or only documents and learned answers")
    model: str | None = Field(None, description="a folder with a classifier of toxicity, in place of the lexicon")
    labels: tuple[str, ...] = Field((), description="the classifier's toxic labels, where their names do not say so")

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        score = _by_lexicon if self.model is None else _classifier(Path(self.model), self.labels)
        found: Counter[str] = Counter()
        toxic = 0
        for example in examples:
            worst, categories = max(map(score, self._texts(example)), default=(0.0, ()))
            if worst >= self.threshold:
                toxic += 1
                found.update(categories)
                reason = f"toxic: {', '.join(categories)} ({worst:.2f})"
                if self.action == "drop":
                    context.ledger.drop(example, reason)
                    continue
                context.ledger.note(example, reason)
            yield example
        context.facts.update(toxic=toxic, categories=dict(sorted(found.items())))

    def _texts(self, example: Example) -> Iterator[str]:
        for name, part in example.parts.items():
            if isinstance(part, str):
                if name != "tools":
                    yield part
            else:
                yield from (turn.content for turn in part if turn.trained or self.judge == "all")


def _by_lexicon(text: str) -> _Score:
    found = toxicity(text)
    return found.score, found.categories


def _classifier(folder: Path, labels: tuple[str, ...]) -> Callable[[str], _Score]:
    """The score by the model in `folder`."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    if not (folder / "config.json").is_file():
        raise ModelError("there is no model", where=str(folder), expected="a folder with config.json and safetensors")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if not any("SequenceClassification" in name for name in config.architectures or ()):
            raise ValueError(f"its architecture is {', '.join(config.architectures or ('not named',))}")
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model, told = AutoModelForSequenceClassification.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        if told["missing_keys"]:
            raise ValueError(f"it lacks {', '.join(sorted(told['missing_keys']))}")
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"the classifier cannot be loaded: {error}",
            where=str(folder),
            expected="a sequence classification model of transformers in safetensors",
        ) from error
    model.eval()
    toxic = _toxic_labels(model.config.id2label, labels, folder)
    several = model.config.problem_type == "multi_label_classification"
    length = min(int(model.config.max_position_embeddings) - 2, 512, tokenizer.model_max_length)

    def score(text: str) -> _Score:
        windows = tokenizer(
            text, truncation=True, max_length=length, return_overflowing_tokens=True, stride=0, padding=True,
            return_tensors="pt",
        )  # fmt: skip
        with torch.inference_mode():
            logits = model(input_ids=windows["input_ids"], attention_mask=windows["attention_mask"]).logits
        shares = (logits.sigmoid() if several else logits.softmax(-1)).amax(0)
        by_label = {name: float(shares[number]) for number, name in toxic.items()}
        # One label of several that exclude each other says little alone: toxic is what is in any of them.
        worst = max(by_label.values()) if several else float(logits.softmax(-1)[:, list(toxic)].sum(-1).max())
        return worst, (max(by_label, key=lambda name: by_label[name]),)

    return score


def _toxic_labels(names: Mapping[int, str], wanted: tuple[str, ...], folder: Path) -> dict[int, str]:
    if wanted:
        found = {number: name for number, name in names.items() if name in wanted}
        short = sorted(set(wanted) - set(found.values()))
    else:
        found = {number: name for number, name in names.items() if _is_toxic(name)}
        short = [] if found else ["toxic"]
    if short:
        raise ModelError(
            f"the classifier has no label {', '.join(short)}",
            where=str(folder),
            expected="one of " + ", ".join(names.values()),
            remedy="name the toxic ones in labels",
        )
    return found


def _is_toxic(name: str) -> bool:
    words = re.sub(r"[_\W]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    return bool(_TOXIC.search(words)) and not _NOT.search(words)
