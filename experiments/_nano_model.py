"""What the measurements of the embedded model ask of a model: continuations, and the next token's probabilities."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.record import Measured
from luthier.models.generate import generate
from luthier.models.load import Loaded

from ._nano_texts import TextSet

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Continued",
    "continued",
    "encode",
    "next_logps",
    "opening",
    "openings",
    "repeat_rows",
    "words_before_repeat",
]

_SENTENCE = re.compile(r".+?[.!?]+[\"'’”)]*(?=\s|$)", re.DOTALL)
_SENTENCES, _WORDS = 2, 20
"""An opening has at least so many of each."""


@dataclass(frozen=True, slots=True)
class Continued:
    """A prompt and the text that followed it."""

    prompt: str
    text: str


def encode(loaded: Loaded, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts; the tokenizer's own special tokens are not put around them."""
    ids: list[list[int]] = loaded.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)[
        "input_ids"
    ]
    return ids


def continued(
    loaded: Loaded, prompts: Sequence[str], tokens: int, *, temperature: float = 0.0, seeds: Sequence[int] | None = None
) -> list[Continued]:
    """At most `tokens` new tokens after each prompt, until the model ends the text; greedy, or sampled with top_p 1."""
    answers = generate(
        loaded.model,
        encode(loaded, prompts),
        stop=loaded.model.generation_config.eos_token_id or (),
        pad=loaded.tokenizer.pad_token_id,
        max_new_tokens=tokens,
        temperature=temperature,
        seeds=seeds,
    )
    texts = [str(loaded.tokenizer.decode(answer, skip_special_tokens=True)) for answer in answers]
    return [Continued(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]


def next_logps(loaded: Loaded, prompts: Sequence[Sequence[int]], together: int = 256) -> Tensor:
    """[n, pieces] float64: log-probabilities of the token after each prompt. All prompts have one length."""
    import torch

    found = []
    with torch.inference_mode():
        for begin in range(0, len(prompts), together):
            ids = torch.tensor(prompts[begin : begin + together], device=loaded.model.device)
            logits = loaded.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits
            found.append(logits[:, -1].double().log_softmax(-1).cpu())
    return torch.cat(found)


def opening(text: str) -> str:
    """The first two sentences of a text, or more until there are twenty words."""
    end = 0
    for number, sentence in enumerate(_SENTENCE.finditer(text), 1):
        end = sentence.end()
        if number >= _SENTENCES and len(text[:end].split()) >= _WORDS:
            break
    return text[:end] if end else text


def openings(loaded: Loaded, stories: TextSet, count: int, tokens: int, temperature: float = 0.0) -> list[Continued]:
    """Continuations of the openings of the first `count` held-out stories: greedy, or drawn with the number as seed."""
    prompts = [opening(text) for text in stories.texts[:count]]
    return continued(loaded, prompts, tokens, temperature=temperature, seeds=range(len(prompts)))


def words_before_repeat(sample: Continued) -> int:
    """Words that were written before a sentence ends that stood in the opening or the text before, word for word."""
    seen = {_alike(found.group()) for found in _SENTENCE.finditer(sample.prompt)}
    words = 0
    for found in _SENTENCE.finditer(sample.text):
        sentence = _alike(found.group())
        if sentence in seen:
            return words
        seen.add(sentence)
        words += len(found.group().split())
    return len(sample.text.split())


def repeat_rows(samples: Mapping[str, Sequence[Continued]]) -> list[Measured]:
    """For each kind of continuation the median of `words_before_repeat`, the least and the greatest."""
    rows = []
    for kind, found in samples.items():
        words = sorted(words_before_repeat(sample) for sample in found)
        longest = max(len(sample.text.split()) for sample in found)
        name = f"{kind}, {len(found)} stories of at most {longest} words: words before a sentence comes again, median"
        middle = statistics.median(words)
        rows.append(Measured(name, middle, None, middle, words[0], words[-1]))
    return rows


def _alike(sentence: str) -> str:
    return " ".join(re.findall(r"\w+", sentence.lower()))
