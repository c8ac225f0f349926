"""What a run would do and cost, found out on a throwaway copy: data, rows, weights, memory, time. Nothing is written.

The recipe's own stages are used (preparation, encoding, adaptation, the training loop, the checks), each on the real
rows, in a temporary folder that is gone afterwards. Errors: RecipeError with every problem that can be known before
anything is loaded, then DataError and ModelError as the run itself would raise them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..core.component import describe
from ..core.contracts import WRITERS, Role, Row
from ..core.evidence import CheckContext
from ..core.example import Example
from ..core.on_policy import OnPolicy, judges_of
from ..core.recipe import Recipe, Source
from ..core.run import EventLog, RunFolder
from ..data.encode import Encoding, Truncated, encode_all
from ..data.large import shelf_for
from ..data.prepare import Prepared, prepare
from ..data.read import read
from ..data.stream import Stream
from ..engine import phase as phases
from ..engine.device import choose
from ..engine.estimate import trained_weights
from ..engine.fit import VALIDATIONS, Fit
from ..engine.on_policy import lengths_of, rolling
from ..engine.phase import Setting
from ..engine.precompute import precompute
from ..engine.room import USUAL_TOKENS, Room, make_room
from ..engine.settle import settled
from ..evaluate.subject import ModelSubject
from ..models.export import save_model
from ..models.load import Loaded, load_model
from ..models.recompute import recompute
from ..models.roles import models_for, role_of
from .before import checked
from .probe import STEPS, Probe, probe_check, probe_training, spread

__all__ = ["CheckPlan", "PhasePlan", "Plan", "SplitPlan", "plan"]

SHOWN = 2
"""Encoded rows kept to be looked at."""


@dataclass(frozen=True)
class SplitPlan:
    """A split as a phase sees it: examples, and what they are once encoded."""

    examples: int
    rows: int
    tokens: int
    supervised: int
    longest: int


@dataclass(frozen=True)
class PhasePlan:
    """One phase: its rows, what encoding shortened or left out, its weights, steps, memory and seconds."""

    name: str
    objective: Any
    adaptation: Any
    splits: Mapping[str, SplitPlan]
    truncated: Mapping[str, Truncated]
    dropped: Mapping[str, int]
    max_length: int
    trained: int
    parameters: int
    steps: int
    tokens: int
    room: Room
    probe: Probe
    seconds: float


@dataclass(frozen=True)
class CheckPlan:
    """A check: on how many items, and the seconds it takes at most for all its subjects."""

    name: str
    items: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What a run would do and cost. samples: the first encoded rows, with the tokenizer that spells them."""

    recipe: Recipe
    model: Mapping[str, Any]
    device: str
    dtype: str
    because: str
    data: Mapping[str, Any]
    phases: tuple[PhasePlan, ...]
    checks: tuple[CheckPlan, ...]
    base_seconds: float
    template: str | None
    stop: tuple[str, ...]
    samples: Sequence[Row]
    tokenizer: Any

    @property
    def seconds(self) -> float:
        """All phases and checks, for every seed."""
        once = sum(phase.seconds for phase in self.phases) + sum(check.seconds for check in self.checks)
        return (once + self.base_seconds) * len(self.recipe.seeds)


def plan(recipe: str | Path | Mapping[str, Any] | Recipe, overrides: Sequence[str] = ()) -> Plan:
    """Plans a recipe; takes a few training steps and a few items of each check, and leaves nothing behind."""
    loaded = checked(recipe, overrides)
    compute = choose(loaded.machine)
    with (
        TemporaryDirectory(prefix="luthier-plan-") as folder,
        shelf_for(loaded.data, Path(folder, "unfinished", "data")) as shelf,
    ):
        log = EventLog(None)
        setting = Setting(_from_the_start(loaded), RunFolder(folder), compute, log, loaded.seeds[0])
        phases.examine_models(setting)
        prepared = prepare(loaded.data, loaded.seeds[0], shelf)
        return _Planning(setting, loaded, prepared).plan()


def _from_the_start(recipe: Recipe) -> Recipe:
    """The recipe with every phase starting from the model that its chain of phases begins with.

    No earlier phase has been trained in a plan; what it would leave has the same shape.
    """
    names = [phase.name for phase in recipe.phases]
    sources: list[str] = []
    for number, phase in enumerate(recipe.phases):
        start = phase.from_
        if start in names[:number]:
            sources.append(sources[names.index(start)])
        else:
            sources.append(start or (sources[-1] if sources else recipe.model))
    moved = [phase.model_copy(update={"from_": source}) for phase, source in zip(recipe.phases, sources, strict=True)]
    return recipe.model_copy(update={"phases": tuple(moved)})


class _Planning:
    """The parts of a plan as they are found, phase by phase; one model is held at a time."""

    def __init__(self, setting: Setting, recipe: Recipe, prepared: Prepared) -> None:
        self.setting, self.recipe, self.prepared = setting, recipe, prepared
        self.samples: list[Row] = []

    def plan(self) -> Plan:
        found: list[PhasePlan] = []
        last = len(self.recipe.phases) - 1
        for number in range(last + 1):
            loaded, encoding, one = self._phase(number)
            found.append(one)
            if number < last:
                del loaded
        checks = self._checks(last, loaded, encoding)
        uses_base = any("base" in check.subjects for check in self.recipe.checks)
        spelled = [str(token) for token in loaded.tokenizer.convert_ids_to_tokens(list(encoding.stop))]
        return Plan(
            recipe=self.recipe,
            model=loaded.description,
            device=str(self.setting.compute.device),
            dtype=str(self.setting.compute.dtype).removeprefix("torch."),
            because=self.setting.compute.because,
            data=self.prepared.summary,
            phases=tuple(found),
            checks=checks,
            # The base of a task with a fresh head trains that head first: the forward half of the first phase.
            base_seconds=found[0].seconds / 2 if uses_base and loaded.fresh else 0.0,
            template=self._template(encoding),
            stop=tuple(spelled) if self.recipe.phases[-1].objective.task in WRITERS else (),
            samples=tuple(self.samples),
            tokenizer=loaded.tokenizer,
        )

    def _template(self, encoding: Encoding) -> str | None:
        """The chat template's name and how its masks are made; None where no row was a conversation."""
        if "template" not in vars(encoding):
            return None
        named = self.recipe.chat_template or "the model's own"
        return f"{named}, masks {'from its generation marks' if encoding.template.marked else 'by rendering prefixes'}"

    def _phase(self, number: int) -> tuple[Loaded, Encoding, PhasePlan]:
        setting, phase = self.setting, self.recipe.phases[number]
        splits = self.prepared.splits if phase.data is None else prepare(phase.data, setting.seed).splits
        phases.survey(setting, number, splits)
        loaded = phases.adapted(setting, number, trained=False, dropout=phase.dropout)
        encoding = phases.encoding_of(setting, number, loaded)
        if phase.objective.other_tokenizers:  # as the stand-ins for such models read
            encoding.beside = dict.fromkeys(phase.objective.sources(), encoding)
        rows = {
            name: phase.objective.complete(encode_all(phase.objective, examples, encoding), setting.seed)
            for name, examples in splits.items()
            if examples
        }
        if number == 0:
            self.samples = rows["train"][:SHOWN]
        lengths, repeats = lengths_of(phase.objective, rows["train"]), [row.repeat for row in rows["train"]]
        stream = Stream(lengths, phase.per_step, setting.seed, repeats)
        passes = phase.objective.passes if isinstance(phase.objective, OnPolicy) else 1
        steps = phase.steps or stream.steps_in(phase.epochs or 1.0) * passes
        tokens = round(float(np.dot(lengths, repeats)) * steps / stream.steps_in(1.0) / passes)
        model = loaded.model
        validates = "validation" in rows
        room = make_room(model, phase, self.recipe.machine, setting.compute.device, lengths, validates=validates)
        if room.gradient_checkpointing:
            recompute(model)
        trained = trained_weights(model, phase.adaptation)
        job = self._job(number, loaded, rows["train"], splits["train"], room)
        places = self._untrained(number)
        with rolling(
            phase, loaded, job.models, encoding, splits, seed=setting.seed, device=job.device, places=places
        ) as job.rollouts:
            probe = probe_training(job)
        return (
            loaded,
            encoding,
            PhasePlan(
                name=phase.name,
                objective=describe(phase.objective),
                adaptation=describe(phase.adaptation),
                splits={name: _split(splits[name], encoded) for name, encoded in rows.items()},
                truncated=dict(encoding.log.truncated),
                dropped=Counter([*encoding.log.dropped.values(), *encoding.log.untrained.values()]),
                max_length=encoding.max_length,
                trained=trained,
                parameters=sum(p.numel() for p in model.parameters()),
                steps=1 if phase.adaptation.solved else steps,
                tokens=tokens,
                room=room,
                probe=probe,
                seconds=(tokens + (_validated(phase, steps, rows.get("validation", ())) + _asked(phase, rows)) / 3)
                / probe.tokens_per_s,
            ),
        )

    def _untrained(self, number: int) -> dict[str, str]:
        """Stand-ins for the reward models of phase `number` that are phases: as large, and not trained yet."""
        names = [phase.name for phase in self.recipe.phases[:number]]
        found = {}
        for source in judges_of(self.recipe.phases[number].objective):
            if source in names:
                place = self.setting.folder.path / "judges" / source
                at = names.index(source)
                judge = phases.adapted(self.setting, at, trained=False)
                save_model(self.recipe.phases[at].adaptation.merge(judge.model), judge.tokenizer, place)
                found[source] = str(place)
        return found

    def _stand_ins(self, number: int, policy: Role) -> dict[str, Role]:
        """For the models that the objective asks, which may not be trained yet: the policy, or where the loss asks them
        too, and may ask any of their layers, models as large as they are.
        """
        objective, names = self.recipe.phases[number].objective, [phase.name for phase in self.recipe.phases[:number]]
        if not objective.asked_throughout:
            return dict.fromkeys(objective.sources(), policy)
        found: dict[str, Role] = {}
        for role, source in objective.sources().items():
            if source in names:
                loaded = phases.adapted(self.setting, names.index(source), trained=False)
            else:
                compute = self.setting.compute
                loaded = load_model(source, objective.task, dtype=compute.dtype, device=compute.device)
            found[role] = role_of(loaded.model.requires_grad_(False), loaded.tokenizer.pad_token_id, loaded.pooling)
        return found

    def _job(self, number: int, loaded: Loaded, rows: Sequence[Row], examples: Sequence[Example], room: Room) -> Fit:
        setting, phase = self.setting, self.recipe.phases[number]
        policy = role_of(loaded.model, loaded.tokenizer.pad_token_id)
        others = self._stand_ins(number, policy)
        if phase.objective.roles:
            device, tokens = setting.compute.device, room.micro_tokens
            for some in (spread(rows, 2 * STEPS * room.micro_tokens), rows):
                asked = precompute(phase.objective, policy, some, device=device, micro_tokens=tokens, others=others)
                learned = settled(phase.objective, asked, examples, phases.facts_of(setting, number))
                if learned:  # of a few rows all may be left out, as such a teacher is sure of none
                    break
            rows = learned
        return Fit(
            models=models_for(phase.objective, policy, others),
            objective=phase.objective,
            adaptation=phase.adaptation,
            phase=phase,
            rows=rows,
            penalties=[(penalty, penalty.begin(loaded.model)) for penalty in phase.penalties],
            seed=setting.seed,
            device=setting.compute.device,
            micro_tokens=room.micro_tokens,
        )

    def _checks(self, number: int, loaded: Loaded, encoding: Encoding) -> tuple[CheckPlan, ...]:
        phase, setting = self.recipe.phases[number], self.setting
        subject = ModelSubject(
            "tuned",
            role_of(loaded.model, loaded.tokenizer.pad_token_id),
            encoding,
            phase.objective,
            self.recipe.decoding,
            setting.seed,
            self.recipe.machine.micro_tokens or USUAL_TOKENS,
        )
        facts = {**phases.facts_of(setting, number), "dtype": str(setting.compute.dtype).removeprefix("torch.")}
        context = CheckContext(facts, setting.seed, _reader())
        test = self.prepared.splits.get("test") or self.prepared.splits.get("validation") or ()
        found = []
        for check in self.recipe.checks:
            cost = probe_check(check, subject, test, context)
            found.append(CheckPlan(check.component_name(), int(cost["items"]), cost["seconds"]))
        return tuple(found)


def _split(examples: Sequence[Example], rows: Sequence[Row]) -> SplitPlan:
    lengths = [len(row.ids) for row in rows]
    supervised = sum(int(row.supervised.sum()) for row in rows)
    return SplitPlan(len(examples), len(rows), sum(lengths), supervised, max(lengths, default=0))


def _asked(phase: Any, rows: Mapping[str, Sequence[Row]]) -> int:
    """Tokens that a reference is asked about before the first step; each costs about a third of a trained one."""
    asked = [row for name in ("train", "validation") for row in rows.get(name, ())] if phase.objective.roles else []
    return sum(len(row.ids) for row in asked)


def _validated(phase: Any, steps: int, rows: Sequence[Row]) -> float:
    """Tokens that all validations of the phase look at; each costs about a third of a trained one."""
    if not rows:
        return 0.0
    every = phase.watch.every or max(1, steps // VALIDATIONS)
    share = min(1.0, (phase.watch.rows or len(rows)) / len(rows))
    return ceil(steps / every) * share * sum(len(row.ids) for row in rows)


def _reader() -> Callable[[str], Sequence[Example]]:
    @cache
    def examples(source: str) -> Sequence[Example]:
        return read([Source(path=source)], bad_rows="stop").examples

    return examples
