"""What base is where the task needs a head that the model has not: which head it gets, and how that is found."""

from __future__ import annotations

from dataclasses import replace

from ..core.component import build
from ..core.contracts import Adaptation
from ..core.recipe import Recipe
from ..models.load import Loaded
from ..models.roles import role_of
from .fit import Fit, fit
from .on_policy import lengths_of
from .phase import Setting, Splits, asked, encoded, encoding_of, open_model
from .room import make_room
from .solve import solve

__all__ = ["base_head", "base_phase", "fit_head"]


def base_phase(recipe: Recipe) -> int:
    """The phase (from 0) whose head and data base has: the first, or the last where only that has the head measured."""
    tasks = [phase.objective.task for phase in recipe.phases]
    return 0 if tasks[0] == tasks[-1] else len(tasks) - 1


def base_head(recipe: Recipe) -> str:
    """What the base has for a head where it has none of its own, in words."""
    number = base_phase(recipe)
    adaptation = recipe.phases[number].adaptation
    found = "the body as it was before the first phase, with what the last one finds on it"
    alone = found if number and not adaptation.words else "a head as it was made, which knows no class"
    return alone if adaptation.solved else "the body frozen, only the head trained"


def fit_head(setting: Setting, splits: Splits, number: int = 0) -> Loaded:
    """The base of a task that needs a head: the model before the first phase, its body frozen, and only the head
    trained, as phase `number` (from 0) would. What is solved at once is solved for on that body where earlier phases
    moved it; where none did, that would be the result itself, and the head stays untrained.
    """
    phase = setting.recipe.phases[number]
    solved = phase.adaptation.solved
    # Without dropout a frozen body gives the same features at every step: what is fitted is a linear model on them.
    loaded = open_model(setting, number, base=True, dropout=0.0)
    if not loaded.fresh:
        return loaded
    setting.log("note", text=f"the base of a task that needs a head: {base_head(setting.recipe)}")
    if solved and (number == 0 or phase.adaptation.words):
        return loaded
    head: Adaptation = phase.adaptation if solved else build("adaptations", "head")  # type: ignore[assignment]
    plain = phase.model_copy(
        update={"name": "base", "adaptation": head, "optimizer": build("optimizers", "adamw"), "penalties": ()}
    )
    model = head.apply(loaded.model)
    head.furnish(model, loaded.tokenizer)
    encoding = encoding_of(setting, number, loaded)
    rows = encoded(setting, number, splits, "train", encoding)
    validation = encoded(setting, number, splits, "validation", encoding)
    machine = setting.recipe.machine.model_copy(update={"gradient_checkpointing": False})  # the body keeps nothing
    room = make_room(
        model, plain, machine, setting.compute.device, lengths_of(phase.objective, rows), validates=bool(validation)
    )
    if room.note:
        setting.log("note", text=room.note)
    policy = role_of(model, loaded.tokenizer.pad_token_id, loaded.pooling)
    (rows, validation), models = asked(setting, number, loaded, policy, room, splits, rows, validation)
    (solve if solved else fit)(
        Fit(
            models=models,
            objective=phase.objective,
            adaptation=head,
            phase=plain,
            rows=rows,
            validation=validation,
            renewal=phase.objective.renewal(encoding, setting.seed),
            folder=setting.folder.path / "phases" / "0-base" / "checkpoints",
            seed=setting.seed,
            device=setting.compute.device,
            micro_tokens=room.micro_tokens,
            most_tokens=machine.micro_tokens,
            learned=room.learned,
            log=setting.log,
            stop=setting.stop,
        )
    )
    return replace(loaded, model=model)
