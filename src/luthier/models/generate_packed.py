"""Generation for models that can be packed: nothing is padded, and what is equal is computed once.

Prompts are read packed; equal prompts are read once, and so is a beginning that several share. A step gives the model
one token of every running text; texts that ended leave at once, and others of the queue join as soon as a quarter of
the positions is free.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import accumulate
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..core.errors import ModelError
from .attention import REFUSALS, Memory, packed_call, position_offset, probe_ids, still, transformer_of
from .cache import Cache, KeysValues, Prefill, Text
from .decoding import Request
from .fused import fuse
from .prompt import has_prompt

__all__ = ["decoding_offset", "generate_packed"]

_CHUNK = 4096
"""Prompt tokens of one forward pass, or one prompt."""
_SHARED = 16
"""Tokens that prompts must have in common at their beginning for it to be read apart."""

_Prompt = tuple[int, ...]


def generate_packed(model: nn.Module, request: Request, offset: int) -> list[list[int]]:
    """The new tokens of each prompt; `offset` is that of `decoding_offset`. The caller sees to eval mode."""
    reader = _Reader(transformer_of(model), offset)
    answers: list[list[int]] = [[] for _ in request.prompts]
    cache = Cache(reader.device)
    queue = deque(sorted(range(len(answers)), key=lambda item: (-len(request.prompts[item]), request.prompts[item])))
    arranged = 0
    while queue or cache.texts:
        joined = _joining(queue, cache, request)
        if joined:
            _join(reader, cache, request, joined, answers)
            arranged = len(cache.texts)
            continue
        if 2 * len(cache.texts) <= arranged:
            cache.arrange()  # Groups that have become small are put together.
            arranged = len(cache.texts)
        _step(reader, cache, request, answers)
    return answers


def _joining(queue: deque[int], cache: Cache, request: Request) -> list[int]:
    """The items that join now, taken off the queue."""
    used = sum(request.needs(text.item) for text in cache.texts)
    joined: list[int] = []
    if used > 0.75 * request.budget:
        return joined
    while queue and (used + request.needs(queue[0]) <= request.budget or not used):
        joined.append(queue.popleft())
        used += request.needs(joined[-1])
    return joined


def _join(reader: _Reader, cache: Cache, request: Request, joined: Sequence[int], answers: list[list[int]]) -> None:
    """Reads the prompts of new items, each different one once, and gives every item its first token."""
    texts: dict[_Prompt, list[Text]] = {}
    for item in joined:
        prompt = tuple(request.prompts[item])
        texts.setdefault(prompt, []).append(Text(item, len(prompt)))
    cache.arrange([text for same in texts.values() for text in same])
    for prompts in _chunks(sorted(texts)):
        kept, sources, logits = reader.read(prompts)
        rows = [(row, text) for row, prompt in enumerate(prompts) for text in texts[prompt]]
        cache.fill(kept, {text: sources[row] for row, text in rows})
        logits = logits.index_select(0, torch.tensor([row for row, _ in rows], device=logits.device))
        _advance(cache, request, logits, [text for _, text in rows], answers)


def _step(reader: _Reader, cache: Cache, request: Request, answers: list[list[int]]) -> None:
    """One token of every running text goes in, the next one comes out."""
    logits = reader.step(cache)
    texts = cache.texts  # in the order of the logits: a step that finds no room rearranges them
    for text in texts:
        text.length += 1
    _advance(cache, request, logits, texts, answers)


def _advance(cache: Cache, request: Request, logits: Tensor, texts: Sequence[Text], answers: list[list[int]]) -> None:
    items = [text.item for text in texts]
    chosen = request.choose(logits, items, [len(answers[item]) for item in items]).tolist()
    ended = set()
    for text, token in zip(texts, chosen, strict=True):
        text.token = token
        if not request.accept(text.item, token, answers[text.item]):
            ended.add(text)
    if ended:
        cache.drop(ended)


@dataclass(frozen=True)
class _Reader:
    """The model as one that reads packed tokens and leaves keys and values in a memory."""

    model: PreTrainedModel
    offset: int

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    def read(self, prompts: Sequence[_Prompt], shared: int = _SHARED) -> tuple[list[KeysValues], list[Tensor], Tensor]:
        """Each layer's keys and values [T, Hk, D], each prompt's places in them, and [prompts, V] logits after it.

        Prompts are sorted; a beginning of `shared` tokens or more that neighbors have in common is read once.
        """
        beginnings = _beginnings(prompts, shared)
        known = list(dict.fromkeys(beginning for beginning in beginnings if beginning))
        before = Prefill(_bounds(known))
        if known:
            self._forward(before, known, [0] * len(known))
        at = dict(zip(known, accumulate(map(len, known), initial=0), strict=False))
        new = sum(map(len, known))
        sources = []
        for prompt, beginning in zip(prompts, beginnings, strict=True):
            first, rest = at.get(beginning, 0), len(prompt) - len(beginning)
            sources.append(
                torch.tensor([*range(first, first + len(beginning)), *range(new, new + rest)]).to(self.device)
            )
            new += rest
        place = torch.cat(sources)
        own = (place >= sum(map(len, known))).nonzero()[:, 0]
        prefill = Prefill(_bounds(prompts), before.kept, place, own) if known else Prefill(_bounds(prompts))
        logits = self._forward(prefill, prompts, [len(beginning) for beginning in beginnings])
        return prefill.kept, sources, logits

    def step(self, cache: Cache) -> Tensor:
        """[B, V] logits after one more token of every running text."""
        tokens, positions = cache.begin()
        starts = torch.arange(len(tokens) + 1, dtype=torch.int32)
        return self._call(cache, tokens, positions, starts, torch.arange(len(tokens), device=self.device))

    def _forward(self, memory: Prefill, prompts: Sequence[_Prompt], skipped: Sequence[int]) -> Tensor:
        """[prompts, V] logits after prompts of which the first `skipped` tokens are known."""
        rests = [prompt[skip:] for prompt, skip in zip(prompts, skipped, strict=True)]
        ids = torch.tensor([token for rest in rests for token in rest])
        positions = [place for p, skip in zip(prompts, skipped, strict=True) for place in range(skip, len(p))]
        starts = _bounds(rests)
        last = (starts[1:] - 1).long().to(self.device)
        return self._call(memory, ids.to(self.device), torch.tensor(positions).to(self.device), starts, last)

    def _call(self, memory: Memory, ids: Tensor, positions: Tensor, starts: Tensor, at: Tensor) -> Tensor:
        keeps = "logits_to_keep" in signature(self.model.forward).parameters
        options = {"logits_to_keep": at} if keeps else {}
        with packed_call(memory):
            logits: Tensor = self.model(
                input_ids=ids[None],
                position_ids=positions[None] + self.offset,
                cu_seq_lens_q=starts,
                use_cache=False,
                **options,
            ).logits[0]
        return logits if keeps else logits.index_select(0, at)


def _bounds(sequences: Sequence[_Prompt]) -> Tensor:
    """[S+1] cumulative lengths, on the CPU."""
    return torch.tensor([0, *accumulate(map(len, sequences))], dtype=torch.int32)


def _chunks(prompts: Sequence[_Prompt]) -> Iterator[list[_Prompt]]:
    """Prompts in order, in passes of at most _CHUNK tokens or one prompt."""
    chunk: list[_Prompt] = []
    for prompt in prompts:
        if chunk and sum(map(len, chunk)) + len(prompt) > _CHUNK:
            yield chunk
            chunk = []
        chunk.append(prompt)
    if chunk:
        yield chunk


def _beginnings(prompts: Sequence[_Prompt], shared: int) -> list[_Prompt]:
    """For each of the sorted prompts the beginning to be read apart; () where there is none. Never a whole prompt.

    Neighbors that agree in at least `shared` tokens form a run; what a whole run has in common is its beginning.
    """
    found: list[_Prompt] = []
    run: list[_Prompt] = []
    for prompt in [*prompts, ()]:
        if run and _common(run[-1], prompt) < shared:
            length = min(map(len, run)) - 1 if len(run) > 1 else 0
            # Of sorted prompts the first and the last differ soonest.
            found += [run[0][: min(length, _common(run[0], run[-1]))]] * len(run)
            run = []
        run.append(prompt)
    return found


def _common(a: _Prompt, b: _Prompt) -> int:
    """How many tokens two prompts have in common at their beginning."""
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def decoding_offset(model: nn.Module, pad: int) -> int | None:
    """What the model adds to positions that count from 0, or None where it must be padded; measured once a model.

    It can be packed (attention.position_offset), and tokens read one after the other through the cache, beginnings
    shared, leave it with the logits that a single packed pass gives.
    """
    try:
        offset = position_offset(model, pad)
    except ModelError:
        return None
    inner = transformer_of(model)
    if offset is None or has_prompt(inner):
        return None  # a prompt goes in with a text's first tokens, and beginnings are read apart from their texts
    fuse(inner)
    if inner not in _decodes:
        _decodes[inner] = _decodes_equally(_Reader(inner, offset), [ids.tolist() for ids in probe_ids(inner, pad)])
    return offset if _decodes[inner] else None


_decodes: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _decodes_equally(reader: _Reader, probe: Sequence[Sequence[int]]) -> bool:
    first, _, long = probe
    wholes = [tuple(long), (*long[:6], *first[:5])]  # The same beginning of 6 tokens, 11 together.
    try:
        with still(reader.model):
            wanted = reader.read(wholes, shared=len(long) + 1)[2].float()
            prompts = [whole[:8] for whole in wholes]
            texts = [Text(number, len(prompt)) for number, prompt in enumerate(prompts)]
            cache = Cache(reader.device)
            cache.arrange(texts)
            kept, sources, found = reader.read(prompts, shared=4)
            cache.fill(kept, dict(zip(texts, sources, strict=True)))
            for place in range(8, len(long)):
                for text in texts:
                    text.token, text.length = wholes[text.item][place], place
                found = reader.step(cache)
    except REFUSALS:
        return False
    reduced = found.dtype in (torch.bfloat16, torch.float16)
    return bool((found.float() - wanted).norm() <= (5e-2 if reduced else 1e-4) * wanted.norm())
