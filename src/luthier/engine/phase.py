"""One phase of a recipe: the model as the phase finds it, its encoded rows, training, and its written result."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from ..core.contracts import Adaptation, Role, Row
from ..core.errors import DataError, ModelError
from ..core.example import Example
from ..core.files import write_atomic
from ..core.on_policy import judges_of
from ..core.recipe import Phase, Recipe
from ..core.run import EventLog, RunFolder
from ..data.encode import Encoding, encode_all
from ..data.parts import refuse_unfit
from ..data.template import template_for
from ..models.changed import keep_layers, with_tokens
from ..models.configuration import CLASSIFIERS
from ..models.export import save_model
from ..models.load import Loaded, examine, load_model
from ..models.recompute import recompute
from ..models.roles import Models, models_for, role_of
from .account import times, training_account
from .device import Compute
from .fit import Fit, FitResult, fit
from .longest import longest_row
from .on_policy import examine_rewards, lengths_of, rolling
from .precompute import precompute
from .room import Room, make_room
from .settle import settled
from .solve import solve
from .teachers import encoders_of, open_sources

__all__ = [
    "Setting",
    "Splits",
    "adapted",
    "asked",
    "encoded",
    "encoding_of",
    "examine_models",
    "facts_of",
    "open_model",
    "survey",
    "train_phase",
]

Splits = Mapping[str, Sequence[Example]]


@dataclass(frozen=True)
class Setting:
    """What every phase of a run shares."""

    recipe: Recipe
    folder: RunFolder
    compute: Compute
    log: EventLog
    seed: int
    stop: Callable[[], bool] = field(default=lambda: False)

    def phase_folder(self, number: int) -> Path:
        """The folder of phase `number` (from 0)."""
        return self.folder.phase(number + 1, self.recipe.phases[number].name)

    def result(self, number: int) -> Path:
        """Where what phase `number` trained is written."""
        return self.phase_folder(number) / "result"


# ---- the model as a phase finds it -----------------------------------------------------------------------------------


def _before(recipe: Recipe, number: int) -> tuple[str | None, int | None]:
    """(model source, None) or (None, number of the earlier phase) that phase `number` starts from."""
    start = recipe.phases[number].from_
    names = [phase.name for phase in recipe.phases[:number]]
    if start is not None:
        return (None, names.index(start)) if start in names else (start, None)
    return (recipe.model, None) if number == 0 else (None, number - 1)


def examine_models(setting: Setting) -> None:
    """Looks at every model that a phase opens, before hours go into the data or into the phases before it.

    Errors: ModelError for one that cannot be used, or not for the phase's task.
    """
    for number, phase in enumerate(setting.recipe.phases):
        source, _ = _before(setting.recipe, number)
        if source is not None:
            examine(source, phase.objective.task)
        for teacher in sorted({*phase.objective.sources().values()} - {one.name for one in setting.recipe.phases}):
            try:
                examine(teacher, phase.objective.task)
            except ModelError as error:
                place = f"phases.{number}.objective.{phase.objective.component_name()}"
                told = [replace(one, found=f"'{teacher}': {one.found}", where=place) for one in error.problems]
                raise ModelError(told) from error
        for encoder in phase.adaptation.sources():
            examine(encoder, "features")
        examine_rewards(phase.objective, [one.name for one in setting.recipe.phases])


def open_model(
    setting: Setting, number: int, *, base: bool = False, dtype: torch.dtype | None = None, dropout: float | None = None
) -> Loaded:
    """The model before phase `number` (from 0): its source, with the results of the phases before it folded in.

    base: the model before the first phase in its place, with the head of phase `number`.
    dropout: sets every dropout of the model; None keeps its own.
    """
    phase = setting.recipe.phases[number]
    source, earlier = _before(setting.recipe, 0 if base else number)
    if earlier is not None:
        source = _merged(setting, earlier)
    assert source is not None
    facts = facts_of(setting, number) if phase.objective.task in (*CLASSIFIERS, "question_answering") else {}
    several = facts.get("multi_label", False)
    loaded = load_model(
        source,
        phase.objective.task,
        labels=facts.get("classes"),
        problem=("multi_label_classification" if several else "single_label_classification") if facts else None,
        dtype=dtype or setting.compute.dtype,
        device=setting.compute.device,
        dropout=dropout,
        seed=setting.seed,
        words=phase.adaptation.words and not base,
    )
    for name in facts.keys() & {"target", "span"}:  # how to read what the head says goes wherever the model goes
        setattr(loaded.model.config, name, facts[name])
    if loaded.carried is not None:
        raise ModelError(
            f"the model carries the adaptation {loaded.carried}, which cannot be folded into its weights",
            where=source,
            expected="a model of plain weights for a phase to start from",
            remedy="start from the model that it was trained from, or train it with lora in place of "
            f"{loaded.carried}; luthier generate and chat use it as it is",
        )
    if setting.recipe.chat_template is not None:  # what answers were learned in goes with the weights
        template_for(loaded.tokenizer, setting.recipe.chat_template)
    kept = setting.recipe.phases[0 if base else number].keep_layers
    loaded = keep_layers(loaded, kept) if kept else loaded
    # What an earlier phase left has the new tokens already.
    return loaded if earlier is not None else with_tokens(loaded, setting.recipe.new_tokens)


def _merged(setting: Setting, number: int) -> str:
    """The folder of what phase `number` came to, with its adaptation folded in.

    The folded model goes through a folder: the next phase may need another head, dtype or dropout.
    """
    folder = setting.phase_folder(number) / "merged"
    if not (folder / "config.json").exists():
        loaded = adapted(setting, number, dtype=torch.float32, trained=True)
        plain = setting.recipe.phases[number].adaptation.merge(loaded.model)
        save_model(plain, loaded.tokenizer, folder, pooling=loaded.pooling)
    return str(folder)


def adapted(
    setting: Setting, number: int, *, dtype: torch.dtype | None = None, trained: bool, dropout: float | None = None
) -> Loaded:
    """The model of phase `number` with its adaptation applied; `trained`: with the phase's result loaded."""
    loaded = open_model(setting, number, dtype=dtype, dropout=dropout)
    adaptation: Adaptation = setting.recipe.phases[number].adaptation
    # What an adaptation injects is drawn at random, and must not depend on what this process did before.
    torch.manual_seed(setting.seed)
    try:
        model = adaptation.apply(loaded.model)
    except ModelError as error:
        raise ModelError([problem.at(f"phases.{number}.adaptation") for problem in error.problems]) from error
    adaptation.furnish(model, loaded.tokenizer)
    if trained:
        adaptation.load(model, setting.result(number))
    return replace(loaded, model=model.to(setting.compute.device))


# ---- rows ------------------------------------------------------------------------------------------------------------


def facts_of(setting: Setting, number: int) -> dict[str, Any]:
    """What was surveyed from the phase's training data (class names and the like)."""
    path = setting.phase_folder(number) / "facts.json"
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def survey(setting: Setting, number: int, splits: Splits) -> None:
    """Surveys the training data for the phase's objective, holds the other splits against it, writes the facts down."""
    objective = setting.recipe.phases[number].objective
    for examples in splits.values():
        refuse_unfit(examples, objective)
    facts = objective.survey(splits["train"])
    objective.require([row for name, rows in splits.items() if name != "train" for row in rows], facts)
    write_atomic(setting.phase_folder(number) / "facts.json", json.dumps(facts, ensure_ascii=False, indent=1) + "\n")


def encoding_of(setting: Setting, number: int, loaded: Loaded) -> Encoding:
    """The phase's encoding: tokenizer, template, length limit, facts."""
    phase = setting.recipe.phases[number]
    return Encoding(
        loaded.tokenizer,
        max_length=longest_row(phase, loaded),
        overlong=phase.overlong,
        facts=facts_of(setting, number),
        chat_template=setting.recipe.chat_template,
    )


def encoded(setting: Setting, number: int, splits: Splits, split: str, encoding: Encoding) -> list[Row]:
    """The rows of a split, complete. Errors: DataError, placed at the split where rows themselves give no place."""
    phase = setting.recipe.phases[number]
    encoding.beside = encoders_of(phase.objective)
    try:
        return phase.objective.complete(encode_all(phase.objective, splits.get(split, ()), encoding), setting.seed)
    except DataError as error:
        raise DataError([problem.at(f"phase '{phase.name}', {split} data") for problem in error.problems]) from error


def _tell(setting: Setting, phase: Phase, encoding: Encoding, what: str) -> None:
    """Warns of rows that encoding shortened or left out, with the most frequent reasons."""
    lost = encoding.log.counts()
    parts = []
    if lost["truncated"]:
        parts.append(f"{lost['truncated']} rows were shortened to fit {encoding.max_length} tokens")
    if lost["dropped"] or lost["untrained"]:
        parts.append(f"{lost['dropped'] + lost['untrained']} rows were left out ({_reasons(encoding)})")
    if parts:
        setting.log("warning", phase=phase.name, text=f"of the {what} data, " + " and ".join(parts))


def _reasons(encoding: Encoding) -> str:
    reasons = {*encoding.log.dropped.values(), *encoding.log.untrained.values()}
    return "; ".join(sorted(reasons)[:3])


# ---- training --------------------------------------------------------------------------------------------------------


def train_phase(setting: Setting, number: int, splits: Splits) -> FitResult:
    """Trains phase `number` (from 0) and writes its result folder and figures; resumes from its checkpoints."""
    phase = setting.recipe.phases[number]
    loaded = adapted(setting, number, trained=False, dropout=phase.dropout)
    if number == 0:
        setting.folder.update_manifest(model=loaded.description)
        if setting.recipe.new_tokens:
            setting.log("note", text=loaded.description["notes"][-1])
    encoding = encoding_of(setting, number, loaded)
    rows = encoded(setting, number, splits, "train", encoding)
    lost = encoding.log.counts()
    _tell(setting, phase, encoding, "training")
    encoding = encoding_of(setting, number, loaded)
    validation = encoded(setting, number, splits, "validation", encoding)
    _tell(setting, phase, encoding, "validation")
    policy = role_of(loaded.model, loaded.tokenizer.pad_token_id, loaded.pooling)
    penalties = [(penalty, penalty.begin(loaded.model)) for penalty in phase.penalties]
    lengths, device = lengths_of(phase.objective, rows), setting.compute.device
    room = make_room(loaded.model, phase, setting.recipe.machine, device, lengths, validates=bool(validation))
    if room.gradient_checkpointing:
        recompute(loaded.model)
        setting.log("note", phase=phase.name, text=f"gradient checkpointing is on: {room.because}")
    if room.note:
        setting.log("note", phase=phase.name, text=room.note)
    (rows, validation), models = asked(setting, number, loaded, policy, room, splits, rows, validation)
    job = Fit(
        models=models,
        objective=phase.objective,
        adaptation=phase.adaptation,
        phase=phase,
        rows=rows,
        validation=validation,
        penalties=penalties,
        renewal=phase.objective.renewal(encoding, setting.seed),
        folder=setting.phase_folder(number) / "checkpoints",
        seed=setting.seed,
        device=setting.compute.device,
        micro_tokens=room.micro_tokens,
        most_tokens=setting.recipe.machine.micro_tokens,
        learned=room.learned,
        log=setting.log,
        stop=setting.stop,
    )
    places = _earlier(setting, number, judges_of(phase.objective))
    seed, log, shown = setting.seed, setting.log, setting.phase_folder(number) / "rollouts.jsonl"
    with rolling(
        phase, loaded, models, encoding, splits, seed=seed, device=device, places=places, log=log, shown=shown
    ) as job.rollouts:
        result = (solve if phase.adaptation.solved else fit)(job)
    setting.log("note", phase=phase.name, text=times(result))
    phase.adaptation.save(loaded.model, setting.result(number))
    account = training_account(phase, loaded.model, result, rows, lost, room, setting.compute.device)
    setting.folder.update_manifest(training={phase.name: account})
    return result


def asked(
    setting: Setting, number: int, loaded: Loaded, policy: Role, room: Room, splits: Splits, *rows: Sequence[Row]
) -> tuple[list[list[Row]], Models]:
    """Training and validation rows as they are learned, with what the objective asks other roles about them, which is
    kept in the phase's folder; and all that its loss is handed.
    """
    phase, compute = setting.recipe.phases[number], setting.compute
    facts, named = facts_of(setting, number), phase.objective.sources()
    earlier = _earlier(setting, number, named.values())
    sources = {role: earlier.get(source, source) for role, source in named.items()}
    others = open_sources(phase.objective, sources, loaded, facts, [*chain(*rows)], compute.dtype, compute.device)
    device, tokens = compute.device, room.micro_tokens
    ask = partial(precompute, phase.objective, policy, device=device, micro_tokens=tokens, others=others)
    found = []
    for split, some in zip(("train", "validation"), rows, strict=True):
        folder, note = setting.phase_folder(number), partial(_note, setting, phase, split)
        answered = ask(some, file=folder / f"reference-{split}.safetensors", note=note)
        given, file = splits.get(split, ()), folder / "ledger.parquet"
        warn = partial(_note, setting, phase, split, kind="warning")
        found.append(settled(phase.objective, answered, given, facts, split=split, file=file, note=note, warn=warn))
    return found, models_for(phase.objective, policy, others if phase.objective.asked_throughout else None)


def _earlier(setting: Setting, number: int, sources: Iterable[str]) -> dict[str, str]:
    """The folders of those sources that are phases before `number`, by name."""
    names = [phase.name for phase in setting.recipe.phases[:number]]
    return {source: _merged(setting, names.index(source)) for source in sources if source in names}


def _note(setting: Setting, phase: Phase, split: str, text: str, kind: str = "note") -> None:
    setting.log(kind, phase=phase.name, text=f"{split}: {text}")
