"""A model under measurement: what checks ask of base, tuned, merged and reloaded alike.

Rows are sorted by length into packed micro-batches; results come back in the order of the examples. The model is in
eval mode and without gradients meanwhile, and afterwards every module is in the mode it was in.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..core.contracts import WRITERS, Batch, Floats, Ints, Objective, Row, Task
from ..core.errors import DataError
from ..core.example import Example
from ..core.on_policy import OnPolicy
from ..core.recipe import Decoding
from ..data.encode import Encoding
from ..data.passages import passages
from ..functional.branches import answer_logps, branch_counts, branch_grid
from ..functional.packing import micro_batches, pack
from ..models.attention import still
from ..models.embed import Embedder
from ..models.generate import generate

if TYPE_CHECKING:
    from ..models.roles import Role

__all__ = ["ModelSubject", "item_seed"]


@dataclass(frozen=True)
class ModelSubject:
    """A role with the encoding, objective and decoding it is measured by (contracts.Subject).

    micro_tokens: tokens in one forward pass. seed: of the draws where decoding has a temperature.
    remark: what a reader must know of this subject, such as that only its head was trained.
    """

    name: str
    role: Role
    encoding: Encoding
    objective: Objective
    decoding: Decoding
    seed: int
    micro_tokens: int = 4096
    remark: str | None = None

    @property
    def task(self) -> Task:
        return self.objective.task

    @property
    def about(self) -> str:
        """dtype of most weights, device, and how batches are made; decoding for a model that answers."""
        sizes: Counter[tuple[str, str]] = Counter()
        for parameter in self.role.model.parameters():
            sizes[str(parameter.dtype).removeprefix("torch."), parameter.device.type] += parameter.numel()
        (dtype, device), _ = sizes.most_common(1)[0]
        way = "packed" if self.role.packed else "padded"
        parts = [self.remark] if self.remark else []
        parts.append(f"{dtype} on {device}, {way} to {self.micro_tokens} tokens")
        if self.objective.task in WRITERS:
            chosen = self.decoding
            kind = f"temperature {chosen.temperature:g}, top_p {chosen.top_p:g}" if chosen.temperature else "greedy"
            parts.append(f"{kind}, at most {chosen.max_new_tokens} new tokens")
        return "; ".join(parts)

    def logps(self, examples: Sequence[Example]) -> tuple[Floats, Ints]:
        tokens = self.token_logps(examples)
        sums = np.array([values.sum() for values in tokens], dtype=np.float64)
        return sums, np.array([len(values) for values in tokens], dtype=np.int64)

    def token_logps(self, examples: Sequence[Example]) -> list[Floats]:
        rows, owners = self._encoded(examples, self._learned)
        return self._by_example(examples, rows, owners, self.role.logps)

    def answers(self, examples: Sequence[Example], names: Sequence[str]) -> list[Floats]:
        rows = [self.encoding.answers(example, names) for example in examples]
        self._refuse_lost(examples, [number for number, found in enumerate(rows) if found])

        def sums(batch: Batch) -> torch.Tensor:
            return torch.stack([answer_logps(self.role, batch), branch_counts(batch).view(batch.size, -1)], dim=-1)

        return self._by_row([row for found in rows for row in found], sums)

    def rewards(self, examples: Sequence[Example]) -> list[Floats]:
        rows, owners = self._encoded(examples)
        self._refuse_lost(examples, owners)
        # What a row says of its answers' worth is not asked here, and rankings of two lengths say it in two shapes.
        rows = [replace(row, fields={}) for row in rows]

        def numbers(batch: Batch) -> torch.Tensor:
            said = self.role.class_logits(batch)[:, :1].double()
            return said if batch.branches is None else branch_grid(said[:, 0], batch)[0]

        found = self._by_row(rows, numbers)
        return [values[: len(row.branches) or 1] for row, values in zip(rows, found, strict=True)]

    def _by_row(self, rows: Sequence[Row], values: Callable[[Batch], torch.Tensor]) -> list[Floats]:
        """What `values` gives for the rows of a batch, [S, ...], in the order of the rows."""
        found: list[Floats] = [np.zeros(0)] * len(rows)
        with still(self.role.model), torch.inference_mode():
            for chosen in self._micro_batches(rows):
                batch = pack([rows[index] for index in chosen]).to(self._device)
                for index, part in zip(chosen, values(batch).double().cpu().numpy(), strict=True):
                    found[index] = part
        return found

    def generate(self, examples: Sequence[Example]) -> list[str]:
        if not self.encoding.stop:
            raise DataError(
                "nothing tells this model's answers where to end: its tokenizer has no end token",
                expected="a tokenizer with eos_token, or a chat template that closes turns",
                remedy="set eos_token in the model's tokenizer_config.json",
            )
        answers = generate(
            self.role.model,
            [self._prompt(example) for example in examples],
            stop=self.encoding.stop,
            pad=self.role.pad,
            max_new_tokens=self.decoding.max_new_tokens,
            temperature=self.decoding.temperature,
            top_p=self.decoding.top_p,
            seeds=[item_seed(self.seed, example.id) for example in examples],
        )
        return [str(self.encoding.tokenizer.decode(answer, skip_special_tokens=True)) for answer in answers]

    def _prompt(self, example: Example) -> list[int]:
        if self.task == "seq2seq":
            return self.encoding.prompt_to_read(example)
        # Room for the answer within the model's length, but never at the price of more than half of the prompt.
        reserve = min(self.decoding.max_new_tokens, self.encoding.max_length // 2)
        return self.encoding.prompt(example, reserve=reserve)

    def classify(self, examples: Sequence[Example]) -> Floats:
        rows, owners = self._encoded(examples)
        self._refuse_lost(examples, owners)
        found = np.zeros((len(rows), len(self.encoding.facts["classes"])))
        with still(self.role.model), torch.inference_mode():
            for chosen in self._micro_batches(rows):
                logits = self.role.class_logits(pack([rows[index] for index in chosen]).to(self._device)).double()
                several = bool(self.encoding.facts["multi_label"])
                logps = torch.nn.functional.logsigmoid(logits) if several else logits.log_softmax(-1)
                found[chosen] = logps.cpu().numpy()
        return found

    def tag(self, examples: Sequence[Example]) -> list[Floats]:
        rows, owners = self._encoded(examples)
        self._refuse_lost(examples, owners)

        def logps(batch: Batch) -> torch.Tensor:
            return self.role.token_logits(batch).double().log_softmax(-1)

        return self._by_example(examples, rows, owners, logps)

    def extract(self, examples: Sequence[Example]) -> list[list[Floats]]:
        stride = int(self.encoding.facts["span"]["stride"])
        found = [passages(example, self.encoding, stride) for example in examples]
        self._refuse_lost(examples, [number for number, some in enumerate(found) if some])
        windows = [passage for some in found for passage in some]
        rows = [passage.row for passage in windows]
        read: list[Floats] = [np.zeros((0, 4))] * len(rows)
        with still(self.role.model), torch.inference_mode():
            for chosen in self._micro_batches(rows):
                logits = self.role.span_logits(pack([rows[index] for index in chosen]).to(self._device))
                ends = np.cumsum([len(rows[index].ids) for index in chosen])
                for index, part in zip(chosen, np.split(logits.double().cpu().numpy(), ends[:-1]), strict=True):
                    read[index] = np.concatenate([part, windows[index].characters], axis=1)
        remaining = iter(read)
        return [list(islice(remaining, len(some))) for some in found]

    def embed(self, texts: Sequence[str]) -> Floats:
        encoding = self.encoding
        embedder = Embedder(self.role, encoding.tokenizer, self.role.pooling, encoding.max_length, self.micro_tokens)
        return embedder.embed(texts).astype(np.float64)

    def _refuse_lost(self, examples: Sequence[Example], owners: Sequence[int]) -> None:
        lost = sorted(set(range(len(examples))) - set(owners))
        if lost:
            first = examples[lost[0]]
            reason = self.encoding.log.dropped.get(first.id) or self.encoding.log.untrained.get(first.id)
            raise DataError(
                f"{len(lost)} of {len(examples)} items could not be encoded, the first is '{first.id}'"
                + (f": {reason}" if reason else ""),
                where=str(first.origin),
                expected="an encoded text for each item",
                remedy="raise max_length, shorten the item, or set overlong to trim_prompt",
            )

    def _by_example(
        self,
        examples: Sequence[Example],
        rows: Sequence[Row],
        owners: Sequence[int],
        values: Callable[[Batch], torch.Tensor],
    ) -> list[Floats]:
        """What `values` gives for the supervised tokens of a batch, [N, ...], gathered by example in their order."""
        of_row: list[Floats] = [np.zeros(0)] * len(rows)
        with still(self.role.model), torch.inference_mode():
            for chosen in self._micro_batches(rows):
                batch = pack([rows[index] for index in chosen]).to(self._device)
                ends = np.cumsum([int(rows[index].supervised.sum()) for index in chosen])
                parts = np.split(values(batch).double().cpu().numpy(), ends[:-1])
                for index, part in zip(chosen, parts, strict=True):
                    of_row[index] = part
        found: list[list[Floats]] = [[] for _ in examples]
        for owner, part in zip(owners, of_row, strict=True):
            found[owner].append(part)
        return [np.concatenate(parts) if parts else np.zeros(0) for parts in found]

    def _learned(self, example: Example) -> list[Row]:
        """The example as supervised rows: of several answers the best one alone; of a language model's general text,
        which its objective need not know, all.
        """
        parts, causal = example.parts, self.objective.task == "causal_lm"
        if causal and ("chosen" in parts or "completion" in parts):
            return self.encoding.answers(example, ("chosen" if "chosen" in parts else "completion",))
        if causal and (isinstance(self.objective, OnPolicy) or self.objective.needs.isdisjoint(parts)):
            return self.encoding.conversation(example) if "messages" in parts else self.encoding.document(example)
        return self.objective.encode(example, self.encoding)

    def _encoded(
        self, examples: Sequence[Example], encode: Callable[[Example], list[Row]] | None = None
    ) -> tuple[list[Row], list[int]]:
        """All rows (as the objective encodes them, or otherwise), and for each the number of the example it is of."""
        encode = encode or (lambda example: self.objective.encode(example, self.encoding))
        rows: list[Row] = []
        owners: list[int] = []
        for number, example in enumerate(examples):
            encoded = encode(example)
            rows.extend(encoded)
            owners.extend([number] * len(encoded))
        return rows, owners

    def _micro_batches(self, rows: Sequence[Row]) -> list[list[int]]:
        """Indices of rows, longest first, so that memory runs out at once or never."""
        lengths = [len(row.ids) for row in rows]
        order = sorted(range(len(rows)), key=lambda index: (-lengths[index], index))
        return micro_batches(order, lengths, self.micro_tokens)

    @property
    def _device(self) -> torch.device:
        return next(self.role.model.parameters()).device


def item_seed(seed: int, row: str) -> int:
    """The seed of one item's draws: neither its place nor the other items change it. 0 to 2**63 - 1."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{row}".encode()).digest()[:8], "big") >> 1
