"""Classes told by a language model's own words: how probable each class's text is in a prompt, nothing of it trained.

A classifier is a transformers model: a reader, which puts each text into the prompt and gives a score for each class,
and a bias for each class. A decoder reads the prompt once for all classes, which are branches behind it; an encoder is
asked for a class of n tokens at n masks. Shapes: N texts, C classes, B rows of the bank, H wide. Source: Brown et al.
2020 (arXiv:2005.14165), sections 2.1 and 2.4; Schick and Schuetze 2021 (arXiv:2001.07676) for masks; Zhao et al. 2021
(arXiv:2102.09690), section 5, for the bias; Liu et al. 2022 (arXiv:2101.06804) for examples. Errors: ModelError for an
encoder without mask token, and for a model that has no room for the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from ..core.contracts import Row
from ..core.errors import ModelError
from ..functional.branches import branch_sums
from ..functional.class_words import in_words
from ..functional.packing import micro_batches, pack
from .embed import Embedder, load_embedder
from .pooling import Pooling
from .roles import Role, role_of

__all__ = ["CONTENT_FREE", "Bank", "LabelWords", "Prompt", "Score"]

Score = Literal["mean", "sum"]
CONTENT_FREE = ("N/A", "[MASK]", "")
"""Texts that say nothing: what a model makes of them is what it thinks of the classes by themselves."""
_LONGEST, _TOGETHER = 2048, 4096
_BETWEEN = "\n\n"


@dataclass(frozen=True)
class Prompt:
    """template: with {text} and {label}; texts: what stands for a class, by its name (default: its name in words).

    score: of a class's tokens the mean log-probability, or the sum. examples: how many rows of the bank come before.
    by: the encoder by which they are near, default the mean of the language model's own states.
    """

    template: str
    texts: Mapping[str, str]
    score: Score = "mean"
    examples: int = 0
    by: str | None = None

    def filled(self, text: str, label: str) -> str:
        """The whole prompt of an example."""
        before, after = self.parts(text)
        return before + label + after

    def parts(self, text: str) -> tuple[str, str]:
        """The prompt before the class and after it."""
        before, _, after = self.template.partition("{label}")
        return before.replace("{text}", text), after.replace("{text}", text)


class Bank(nn.Module):
    """Rows that examples are taken from: texts and classes, and vectors [B, H] of unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.classes: list[int] = []
        self.vectors = nn.Parameter(torch.zeros(0, 1))

    def put(self, texts: Sequence[str], classes: Sequence[int], vectors: Tensor) -> None:
        """Takes these rows in place of those that were there."""
        self.texts, self.classes = list(texts), list(classes)
        self.vectors = nn.Parameter(vectors.detach().clone())

    def nearest(self, asked: Sequence[str], vectors: Tensor, count: int) -> list[list[int]]:
        """For each text the nearest rows by cosine, the nearest last; a row that says the same is none of them."""
        near = vectors.to(self.vectors) @ self.vectors.T
        order = near.argsort(dim=-1, descending=True, stable=True).tolist()
        found = []
        for text, rows in zip(asked, order, strict=True):
            others = (row for row in rows if self.texts[row] != text)
            found.append(list(islice(others, count))[::-1])
        return found


class _Reader(nn.Module):
    """The body: [N, C] scores of the classes, where other bodies give hidden states."""

    def __init__(self, lm: PreTrainedModel, prompt: Prompt) -> None:
        super().__init__()
        self.lm, self.prompt = lm, prompt
        self.bank = Bank() if prompt.examples else None
        self.tokenizer: Any = None
        self.masked = AutoModelForMaskedLM._model_mapping.get(type(lm.config), None) is type(lm)
        self._role: Role | None = None
        self._embedder: Embedder | None = None

    @property
    def words(self) -> list[str]:
        """[C] what stands for each class."""
        names = self.lm.config.id2label
        return [self.prompt.texts.get(names[number], in_words(names[number])) for number in sorted(names)]

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any) -> BaseModelOutput:
        """Texts as the tokenizer made them, [N, L], with their special tokens."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        texts = [self.spelled(ids[there]) for ids, there in zip(input_ids, mask.bool(), strict=True)]
        return BaseModelOutput(last_hidden_state=self.scores(texts))

    def spelled(self, ids: Tensor) -> str:
        """The text of tokens, without special ones."""
        text = self.tokenizer.decode(ids.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text).strip()

    def scores(self, texts: Sequence[str]) -> Tensor:
        """[N, C] float32: mean or summed log-probabilities of the classes' tokens, in nats."""
        with torch.no_grad():
            return self._at_masks(texts) if self.masked else self._behind_prompts(texts)

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """[N, H] float32, of unit length: what is near is told by."""
        if self._embedder is None:
            if self.prompt.by is not None:
                with torch.inference_mode(False):  # what is tried when a model is opened has gradients
                    self._embedder = load_embedder(self.prompt.by, device=self._device)
            else:
                self._embedder = Embedder(self._own, self.tokenizer, Pooling(), self._limit)
        found = torch.from_numpy(self._embedder.embed(list(texts)))
        return nn.functional.normalize(found, dim=-1)

    # ---- decoders ----------------------------------------------------------------------------------------------------

    def _behind_prompts(self, texts: Sequence[str]) -> Tensor:
        labels = self._labels()
        room = self._limit - max(map(len, labels))
        shown = self._examples(texts)
        prompts = [self._fitted(text, rows, room) for text, rows in zip(texts, shown, strict=True)]
        found = torch.zeros(len(texts), len(labels), device=self._device)
        # On CUDA attention copies a prompt for each class, and it is its copies that memory must hold.
        copies = len(labels) if self._device.type == "cuda" else 1
        lengths = [copies * (len(ids) - 1) + sum(1 + len(label) for label in labels) for ids in prompts]
        order = sorted(range(len(texts)), key=lambda index: (-lengths[index], index))
        for chosen in micro_batches(order, lengths, _TOGETHER):
            batch = pack([_branched(str(index), prompts[index], labels) for index in chosen]).to(self._device)
            sums = branch_sums(self._own.logps(batch, alike=True), batch)
            found[chosen] = sums.view(len(chosen), -1).float()
        return self._told(found, labels)

    def _examples(self, texts: Sequence[str]) -> list[list[str]]:
        """For each text the filled prompts of its nearest rows, the nearest last."""
        if self.bank is None or not self.bank.texts:
            return [[] for _ in texts]
        words, bank = self.words, self.bank
        rows = bank.nearest(texts, self.vectors(texts), self.prompt.examples)
        return [[self.prompt.filled(bank.texts[row], words[bank.classes[row]]) for row in some] for some in rows]

    def _fitted(self, text: str, examples: list[str], room: int) -> list[int]:
        """The prompt's tokens, at most `room`: the farthest examples go first, then the text's end. Where it has none,
        the token that stands between texts.
        """
        begin, _ = self._frame
        while True:
            before = self.prompt.parts(text)[0].rstrip()
            ids = begin + self._ids(_BETWEEN.join([*examples, before]))
            over = len(ids) - room
            if over <= 0:
                return ids or [self._divider]
            if examples:
                examples = examples[1:]
                continue
            text = self._shorter(text, over)

    def _shorter(self, text: str, tokens: int) -> str:
        """The text without its last tokens. Errors: ModelError where none is left."""
        kept = self._ids(text)[: -max(tokens, 1)]
        if not kept:
            raise ModelError(
                f"{type(self.lm).__name__} takes {self._limit} tokens, and the prompt alone has more",
                expected="a template and class texts that leave room for a text",
                remedy="shorten template or texts, or take a model with a longer context",
            )
        # Half of a letter's bytes would become a sign of more tokens than it had.
        return str(self.tokenizer.decode(kept, skip_special_tokens=True)).strip().rstrip("\ufffd")

    # ---- encoders ----------------------------------------------------------------------------------------------------

    def _at_masks(self, texts: Sequence[str]) -> Tensor:
        labels, mask = self._labels(), self.tokenizer.mask_token_id
        found = torch.zeros(len(texts), len(labels), device=self._device)
        for size in sorted({len(ids) for ids in labels}):
            alike = [number for number, ids in enumerate(labels) if len(ids) == size]
            wanted = torch.tensor([labels[number] for number in alike], device=self._device)  # [C', n]
            rows = [self._masked_row(str(index), text, [mask] * size) for index, text in enumerate(texts)]
            lengths = [len(row.ids) for row in rows]
            order = sorted(range(len(rows)), key=lambda index: (-lengths[index], index))
            for chosen in micro_batches(order, lengths, _TOGETHER):
                logits = self._own.mask_logits(pack([rows[index] for index in chosen]).to(self._device)).float()
                logps = logits.log_softmax(-1).view(len(chosen), size, -1)
                each = [logps[:, place].index_select(1, wanted[:, place]) for place in range(size)]
                found[torch.tensor(chosen)[:, None], torch.tensor(alike)] = torch.stack(each).sum(0)
        return self._told(found, labels)

    def _masked_row(self, name: str, text: str, masks: list[int]) -> Row:
        """The prompt with masks in the class's place; of a text that is too long, the beginning."""
        begin, end = self._frame
        while True:
            before, after = self.prompt.parts(text)
            left, right = self._ids(before.strip()), self._ids(after.rstrip())
            whole = [*begin, *left, *masks, *right, *end]
            if len(whole) <= self._limit:
                break
            text = self._shorter(text, len(whole) - self._limit)
        ids = np.array(whole, dtype=np.int64)
        marks = np.zeros(len(ids), dtype=np.bool_)
        marks[len(begin) + len(left) : len(begin) + len(left) + len(masks)] = True
        return Row(name, ids, marks, targets=ids)

    # ---- tokens ------------------------------------------------------------------------------------------------------

    def _labels(self) -> list[list[int]]:
        """[C] the tokens of each class's text as they follow the prompt."""
        before = self.prompt.parts("")[0]
        tail, space = before.rstrip(), before[len(before.rstrip()) :]
        head = self._ids(tail)
        found = []
        for words in self.words:
            whole = self._ids(tail + space + words)
            # Where tokens carry the space before a word, a class's are those of a text that goes on with it.
            found.append(whole[len(head) :] if whole[: len(head)] == head else self._ids(words))
        return found

    def _told(self, sums: Tensor, labels: Sequence[Sequence[int]]) -> Tensor:
        if self.prompt.score == "sum":
            return sums
        return sums / torch.tensor([max(len(ids), 1) for ids in labels], device=sums.device)

    def _ids(self, text: str) -> list[int]:
        options = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
        ids: list[int] = self.tokenizer(text, **options)["input_ids"]
        return ids

    @property
    def _divider(self) -> int:
        named = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.pad_token_id)
        return next(int(token) for token in named if token is not None)

    @property
    def _frame(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer itself puts before and after a text; a decoder goes on after it."""
        whole: list[int] = self.tokenizer("a", verbose=False)["input_ids"]
        plain = self._ids("a")
        at = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
        return whole[:at], whole[at + len(plain) :]

    @property
    def _limit(self) -> int:
        own = getattr(self.lm.config.get_text_config(), "max_position_embeddings", None) or _LONGEST
        return min(int(own) - (self._own.offset or 0), _LONGEST)

    @property
    def _own(self) -> Role:
        if self._role is None:
            with torch.inference_mode(False):
                self._role = role_of(self.lm, self.tokenizer.pad_token_id)
        return self._role

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self.lm.parameters()).device
        return device


class LabelWords(PreTrainedModel):  # type: ignore[misc]
    """A reader, and what is added to each class's score."""

    base_model_prefix = "reader"
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, lm: PreTrainedModel, prompt: Prompt) -> None:
        super().__init__(lm.config)
        lm.requires_grad_(False)
        self.reader = _Reader(lm, prompt)
        self.bias = None if prompt.examples else nn.Parameter(torch.zeros(lm.config.num_labels))
        self.train(lm.training)

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        """What the reader is given are texts: packing happens below it."""
        return False

    def get_output_embeddings(self) -> None:
        """None: the language model's own is no head of this model."""
        return None

    def furnish(self, tokenizer: Any) -> None:
        """Hands the reader its tokenizer. Errors: ModelError for an encoder whose tokenizer has no mask token."""
        self.reader.tokenizer = tokenizer
        if self.reader.masked and tokenizer.mask_token_id is None:
            raise ModelError("the model's tokenizer has no mask token", remedy="choose another encoder, or a decoder")

    def calibrate(self) -> None:
        """Sets the bias so that a text that says nothing has every class with the same probability."""
        assert self.bias is not None
        chances = self.reader.scores(CONTENT_FREE).double().softmax(-1).mean(0)
        self.bias.data.copy_(-chances.log())

    def remember(self, texts: Sequence[str], classes: Sequence[int]) -> None:
        """Puts these rows into the bank."""
        assert self.reader.bank is not None
        self.reader.bank.put(texts, classes, self.reader.vectors(texts))

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """transformers' call; logits [N, C]."""
        scores = self.reader(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return SequenceClassifierOutput(logits=scores if self.bias is None else scores + self.bias.to(scores))


def _branched(name: str, prompt: list[int], labels: Sequence[list[int]]) -> Row:
    """A prompt once, with each class as a branch that begins with the prompt's last token."""
    last = prompt[-1:]
    ids: NDArray[np.int64] = np.array(
        [*prompt[:-1], *(token for label in labels for token in last + label)], dtype=np.int64
    )
    marks = [*[False] * (len(prompt) - 1), *(mark for label in labels for mark in [False] + [True] * len(label))]
    return Row(name, ids, np.array(marks, dtype=np.bool_), branches=tuple(1 + len(label) for label in labels))
