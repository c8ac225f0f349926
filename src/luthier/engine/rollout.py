"""Rollouts: the policy answers prompts while it trains, its answers are rewarded, and become the rows of steps.

A rollout is a function of the weights at its beginning, the seed and its number alone: every answer has a seed of its
own. Checkpoints are written between rollouts, so that nothing of one need be kept for a run that goes on.
"""

from __future__ import annotations

import copy
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.contracts import Floats, Role, Row
from ..core.errors import RecipeError
from ..core.example import Example
from ..core.on_policy import OnPolicy
from ..core.rewards import NOWHERE, Answer, Failed, Judge
from ..data.encode import Encoding
from ..data.parts import prompt_turns, wanted_of
from ..functional.branches import branch_sums
from ..functional.packing import micro_batches, pack
from ..models.attention import still
from ..models.generate import generate
from ..models.quantized import QuantizedLinear
from ..models.roles import Models
from .step import StepLoss

__all__ = ["Judged", "Rollouts", "frozen_copy", "judging"]

_SHOWN = 2  # prompts of a rollout whose answers are logged
_LONGEST = 1000  # characters of a logged answer


@dataclass(frozen=True)
class Judged:
    """Rewards [n] of answers, each reward's part of them before its weight, why some could not be found, and for each
    such reason what one of them said, which may quote its answer.
    """

    rewards: Floats
    parts: Mapping[str, Floats]
    failures: Mapping[str, int]
    details: Mapping[str, str]


@contextmanager
def judging(
    objective: OnPolicy, places: Mapping[str, str] = NOWHERE, device: str = "cpu"
) -> Iterator[Callable[[Sequence[Answer]], Judged]]:
    """What gives answers the sum of the objective's rewards, as long as the context lasts.

    places: the folders of reward models that are earlier phases, by phase. device: where reward models compute.
    """
    with ExitStack() as stack:
        judges: list[tuple[str, float, Judge]] = []
        for number, reward in enumerate(objective.rewards):
            name = reward.component_name()
            # Two of a kind are told apart by their place.
            name = f"{name}_{number + 1}" if name in [known for known, _, _ in judges] else name
            judges.append((name, reward.weight, stack.enter_context(reward.open(places, device))))

        def judge(answers: Sequence[Answer]) -> Judged:
            total, parts, failures, details = np.zeros(len(answers)), {}, Counter[str](), dict[str, str]()
            for name, weight, of in judges:
                found = of(answers)
                for failed in (value for value in found if isinstance(value, Failed)):
                    failures[f"{name}: {failed.why}"] += 1
                    details.setdefault(f"{name}: {failed.why}", failed.details)
                values = np.array([value.value if isinstance(value, Failed) else value for value in found])
                parts[name] = values
                total = total + weight * values
            return Judged(total, parts, failures, details)

        yield judge


def frozen_copy(model: nn.Module, moving: Sequence[nn.Parameter]) -> nn.Module:
    """The model as it is now, in eval mode for good; what never moves is shared with the original."""
    known = {id(parameter) for parameter in moving}
    held = (tensor for module in model.modules() if isinstance(module, QuantizedLinear) for tensor in module.buffers())
    memo: dict[int, Any] = {id(tensor): tensor for tensor in chain(model.parameters(), held) if id(tensor) not in known}
    return copy.deepcopy(model, memo).requires_grad_(False).eval()


@dataclass(frozen=True)
class _Drawn:
    """An answer's tokens, their log-probabilities as they were drawn, and whether it was cut before it ended."""

    tokens: list[int]
    logps: list[float]
    cut: bool


class _Heard:
    """The tokens that were drawn for each item, the one that ended its answer among them, and what each was worth."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, int], tuple[int, float]] = {}

    def __call__(self, logits: Tensor, items: Sequence[int], steps: Sequence[int], tokens: Tensor) -> None:
        logps = logits.float().log_softmax(-1).gather(-1, tokens[:, None].to(logits.device))[:, 0]
        pairs = zip(tokens.tolist(), logps.tolist(), strict=True)
        for item, step, pair in zip(items, steps, pairs, strict=True):
            self.known.setdefault((item, step), pair)

    def answer(self, item: int, length: int, longest: int) -> _Drawn:
        """An answer of `length` tokens, with what ended it where it is shorter than `longest`."""
        found = [self.known[item, step] for step in range(length + (length < longest))]
        return _Drawn([token for token, _ in found], [logp for _, logp in found], length == longest)


class Rollouts:
    """What samples the rows of an on-policy fit.

    rows: encoded prompts of the training data; examples: all rows by id. policy: the model that is trained; reference:
    as it was when the phase began, where the objective asks it. own: what the objective trains beside the policy.
    judge: gives the rewards; rewarded: a digest of what they go by. memory: what the objective knows of the rollouts
    before. log: is told figures; show: what rows and answers say, which is not for everybody.
    """

    def __init__(
        self,
        objective: OnPolicy,
        policy: Role,
        reference: Role | None,
        own: nn.Module | None = None,
        *,
        examples: Mapping[str, Example],
        encoding: Encoding,
        judge: Callable[[Sequence[Answer]], Judged],
        seed: int,
        device: torch.device,
        pad: int,
        log: Callable[..., None],
        phase: str,
        show: Callable[..., None] = lambda event, **values: None,
        rewarded: str = "",
    ) -> None:
        self.objective, self.policy, self.reference = objective, policy, reference
        self.models = Models(policy, {} if reference is None else {"reference": reference}, own)
        self.examples, self.encoding, self.judge = examples, encoding, judge
        self.seed, self.device, self.pad, self.log, self.phase = seed, device, pad, log, phase
        self.show, self.rewarded = show, rewarded
        self.parts: list[list[Row]] = []
        self.figures: dict[str, float] = {}
        self.memory: dict[str, float] = {}
        self._number = -1
        self._warned: set[str] = set()

    @property
    def steps(self) -> int:
        """Optimizer steps that a rollout makes."""
        return self.objective.minibatches * self.objective.passes

    @property
    def passes(self) -> int:
        """How often the batches of a rollout are learned from."""
        return self.objective.passes

    @property
    def room(self) -> int:
        """Tokens that the answers to a prompt may have, with the prompt's last token before each."""
        return self.objective.answers * (self.objective.max_new_tokens + 1)

    def batch_number(self, step: int) -> int:
        """Which of the stream's batches of prompts step `step` (from 0) learns from."""
        rollout, within = divmod(step, self.steps)
        count = self.objective.minibatches
        return rollout * count + within % count

    def rows(self, step: int, asked: Callable[[int], Sequence[Row]], micro_tokens: int) -> list[Row]:
        """The answered rows of a step; a rollout's first step asks for all of it. asked: the prompts of a batch."""
        number, count = step // self.steps, self.objective.minibatches
        if number != self._number:
            prompts = [asked(number * count + part) for part in range(count)]
            found = self._rollout(number, step, [row for part in prompts for row in part], micro_tokens)
            ends = np.cumsum([0, *map(len, prompts)])
            self.parts = [found[begin:end] for begin, end in pairwise(ends)]
            self._number = number
        return self.parts[step % self.steps % count]

    def measure(self, rows: Sequence[Row], micro_tokens: int) -> StepLoss:
        """Minus the mean reward of one answer to each of the rows, drawn with the same numbers every time."""
        answered, _, judged = self._answered(rows, "validation", 1)
        tokens = sum(len(row.ids) for row in answered)
        weights = np.array([row.weight for row in rows])
        reward = float(np.average(judged.rewards, weights=weights))
        figures = {"reward": reward, "answer_tokens": float(np.mean([row.supervised.sum() for row in answered]))}
        if self.reference is not None:
            ours, theirs = (self._sums(role, answered, micro_tokens) for role in (self.policy, self.reference))
            figures["kl"] = float(np.average(ours - theirs, weights=weights))
        return StepLoss(
            -reward, {"reward": -reward}, tokens, sum(int(row.supervised.sum()) for row in answered), figures
        )

    # ---- a rollout ---------------------------------------------------------------------------------------------------

    def _rollout(self, number: int, step: int, rows: Sequence[Row], micro_tokens: int) -> list[Row]:
        count = self.objective.answers
        answered, texts, judged = self._answered(rows, str(number), count)
        answered = self._precomputed(answered, micro_tokens)
        stacked = {
            name: torch.from_numpy(np.stack([row.fields[name] for row in answered])) for name in answered[0].fields
        }
        stacked["rewards"] = torch.from_numpy(judged.rewards.reshape(len(rows), count))
        before = dict(self.memory)
        more = self.objective.advantages(stacked, self.memory)
        self._tell(step, rows, texts, judged, answered, self.objective.figures({**stacked, **more}, before))
        if number == 0:
            self._refuse_hopeless(judged, len(texts))
        arrays = {name: value.to(torch.float32).numpy() for name, value in more.items()}
        return [
            replace(row, fields={**row.fields, **{name: value[place] for name, value in arrays.items()}})
            for place, row in enumerate(answered)
        ]

    def _refuse_hopeless(self, judged: Judged, count: int) -> None:
        """Errors: RecipeError where a reward failed for each of `count` answers: from it nothing would be learned."""
        failed = Counter[str]()
        for why, times in judged.failures.items():
            failed[why.partition(": ")[0]] += times
        broken = [name for name, times in failed.items() if times == count]
        if broken:
            reasons = [why for why in judged.failures if why.startswith(f"{broken[0]}: ")]
            raise RecipeError(
                f"the reward '{broken[0]}' failed for all {count} answers of the first rollout",
                where=f"phase '{self.phase}'",
                expected=f"a number for at least some of them, not: {'; '.join(reasons[:3])}",
                remedy="mend it; what it said and the answers stand in the phase's rollouts.jsonl",
            )

    def _answered(self, rows: Sequence[Row], name: str, count: int) -> tuple[list[Row], list[str], Judged]:
        """The rows with `count` answers each as branches, the answers' texts, and their rewards."""
        objective, heard = self.objective, _Heard()
        longest = objective.max_new_tokens
        answers = generate(
            self.policy.model,
            [row.ids.tolist() for row in rows for _ in range(count)],
            stop=self.encoding.stop,
            pad=self.pad,
            max_new_tokens=longest,
            temperature=1.0,
            seeds=[_seed(f"{self.seed}:{name}:{row}:{place}") for row in _apart(rows) for place in range(count)],
            listener=heard,
        )
        drawn = [heard.answer(item, len(answer), longest) for item, answer in enumerate(answers)]
        texts = [str(text) for text in self.encoding.tokenizer.batch_decode(answers, skip_special_tokens=True)]
        asked = [self._asked(row.id) for row in rows for _ in range(count)]
        judged = self.judge([Answer(*known[:2], text, known[2]) for known, text in zip(asked, texts, strict=True)])
        found = [_branched(row, drawn[at * count : (at + 1) * count], longest) for at, row in enumerate(rows)]
        return found, texts, judged

    def _asked(self, row: str) -> tuple[Example, str, tuple[str, ...]]:
        example = self.examples[row]
        turns = prompt_turns(example)
        return example, turns[-1].content if turns else "", wanted_of(example)

    def _precomputed(self, rows: Sequence[Row], micro_tokens: int) -> list[Row]:
        """The rows with what the objective asks of the policy as it is now and of other roles."""
        lengths = [len(row.ids) for row in rows]
        found: list[Row] = []
        with still(self.policy.model):
            for chosen in micro_batches(range(len(rows)), lengths, micro_tokens):
                batch = pack([rows[index] for index in chosen]).to(self.device)
                fields = {
                    name: value.float().cpu().numpy()
                    for name, value in self.objective.precompute(self.models, batch).items()
                }
                found += [
                    replace(rows[index], fields={**rows[index].fields, **{n: v[place] for n, v in fields.items()}})
                    for place, index in enumerate(chosen)
                ]
        return found

    def _sums(self, role: Role, rows: Sequence[Row], micro_tokens: int) -> Floats:
        """[n] log-probabilities of rows of a single answer."""
        lengths, found = [len(row.ids) for row in rows], []
        with still(role.model):
            for chosen in micro_batches(range(len(rows)), lengths, micro_tokens):
                batch = pack([rows[index] for index in chosen]).to(self.device)
                found.append(branch_sums(role.logps(batch), batch).double().cpu().numpy())
        return np.concatenate(found)

    # ---- what is told ------------------------------------------------------------------------------------------------

    def _tell(
        self,
        step: int,
        rows: Sequence[Row],
        texts: Sequence[str],
        judged: Judged,
        answered: Sequence[Row],
        more: Mapping[str, float],
    ) -> None:
        count = self.objective.answers
        tokens, cut = (np.concatenate([row.fields[name] for row in answered]) for name in ("tokens", "cut"))
        spread = judged.rewards.reshape(len(rows), count).std(1)
        self.figures = {
            "reward": float(judged.rewards.mean()),
            "reward_spread": float(spread.mean()),
            "answer_tokens": float(tokens.mean()),
            "cut": float(cut.mean()),
            **more,
            **(
                {f"reward_{name}": float(v.mean()) for name, v in judged.parts.items()} if len(judged.parts) > 1 else {}
            ),
        }
        if judged.failures:
            self.figures["failed"] = sum(judged.failures.values()) / len(texts)
        for why, times in judged.failures.items():
            if why not in self._warned:  # once for each reason: the figure says how often
                self._warned.add(why)
                where = "; what it said stands in the phase's rollouts.jsonl" if judged.details[why] else ""
                text = f"a reward failed for {times} of {len(texts)} answers: {why}{where}"
                self.log("warning", phase=self.phase, text=text)
        shown = [
            {
                "row": row.id,
                "prompt": _cut(self._asked(row.id)[1]),
                "answers": [
                    {"text": _cut(texts[at]), "reward": round(float(judged.rewards[at]), 4)}
                    for at in range(place * count, (place + 1) * count)
                ],
            }
            for place, row in enumerate(rows[:_SHOWN])
        ]
        self.log("rollout", phase=self.phase, step=step + 1, figures=self.figures)
        self.show("samples", step=step + 1, samples=shown, failures=dict(judged.details))


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def _apart(rows: Sequence[Row]) -> Iterator[str]:
    """The rows' ids, told apart where one comes again, as where a rollout reaches into the next epoch."""
    times = Counter[str]()
    for row in rows:
        yield f"{row.id}:{times[row.id]}" if times[row.id] else row.id
        times[row.id] += 1


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _branched(row: Row, answers: Sequence[_Drawn], longest: int) -> Row:
    """A prompt with its answers, a branch each, from the prompt's last token."""
    last = row.ids[-1:]
    ids = [np.concatenate([last, np.array(answer.tokens, dtype=np.int64)]) for answer in answers]
    sampled = np.zeros((len(answers), longest), dtype=np.float32)
    for place, answer in enumerate(answers):
        sampled[place, : len(answer.logps)] = answer.logps
    marks = [np.arange(len(branch)) > 0 for branch in ids]
    return replace(
        row,
        ids=np.concatenate([row.ids[:-1], *ids]),
        supervised=np.concatenate([np.zeros(len(row.ids) - 1, dtype=np.bool_), *marks]),
        branches=tuple(len(branch) for branch in ids),
        fields={
            "sampled": sampled,
            "tokens": np.array([len(answer.tokens) for answer in answers], dtype=np.float32),
            "cut": np.array([answer.cut for answer in answers], dtype=np.float32),
        },
    )
