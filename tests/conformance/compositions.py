"""Which objective composes with which adaptation on which kind of model: tried, not declared.

tests/conformance/test_adaptations.py trains every pair for three steps on a tiny model, saves it, loads it into a fresh
one and merges it. `python tools/write_compositions.py` writes the table of what goes together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from conformance.world import KINDS, Task, load, meet, models_of, settings

from luthier.core.component import build
from luthier.core.contracts import Adaptation, Objective, Schedule
from luthier.core.errors import ModelError
from luthier.core.recipe import Phase
from luthier.engine.optimize import Stepper
from luthier.engine.step import accumulate, mean_loss
from luthier.models.attention import still
from luthier.models.load import Loaded
from luthier.models.roles import Role, role_of

WORDS = {"llama": "decoder (Llama)", "bert": "encoder (BERT)", "t5": "encoder-decoder (T5)"}
STEPS = 3


_TRIED: dict[tuple[Any, ...], str | None] = {}


@dataclass(frozen=True)
class Composition:
    """An objective and an adaptation on a kind of model."""

    objective: Objective
    adaptation: Adaptation
    kind: str

    def __str__(self) -> str:
        return f"{self.objective.component_name()}-{self.adaptation.component_name()}-{self.kind}"

    def task(self) -> Task:
        return Task.kept(self.objective)

    def load(self, task: Task) -> Loaded:
        """A fresh base. Errors: ModelError where the model has no such head."""
        return load(self.kind, self.objective.task, task.facts, words=self.adaptation.words)

    def adapted(self, loaded: Loaded) -> torch.nn.Module:
        """The model with the adaptation. Errors: ModelError where they do not go together."""
        model = self.adaptation.apply(loaded.model)
        self.adaptation.furnish(model, loaded.tokenizer)
        return model

    def refusal(self) -> str | None:
        """Why the two do not go together on this model, or in any recipe, or None where they do."""
        phase: Any = Phase(objective=self.objective, adaptation=self.adaptation)
        for problem in self.adaptation.problems(SimpleNamespace(phases=(phase,)), phase):  # type: ignore[arg-type]
            return problem.found
        facts = self.task().facts
        given = (
            self.kind,
            self.objective.task,
            repr(self.adaptation),
            repr(facts.get("classes")),
            facts.get("multi_label"),
        )
        if given not in _TRIED:  # objectives of one task are handed models that are alike
            _TRIED[given] = self._tried()
        return _TRIED[given]

    def _tried(self) -> str | None:
        try:
            self.adapted(self.load(self.task()))
        except ModelError as error:
            return error.problems[0].found
        return None


def defaults(room: str) -> list[Any]:
    """The components of a room, each once: in its defaults, or its example where it has none."""
    found: dict[str, Any] = {}
    for _, component in settings(room):
        found.setdefault(component.component_name(), component)
    return list(found.values())


def compositions() -> Iterator[Composition]:
    """Every objective with every adaptation on every kind of model, in defaults."""
    for kind in KINDS:
        for objective in defaults("objectives"):
            if meet(kind, objective.task):
                yield from (Composition(objective, adaptation, kind) for adaptation in defaults("adaptations"))


def answers(role: Role, task: Task) -> torch.Tensor:
    """What the model says of the task's rows: log-probabilities, of tokens, of classes or of tags, or their vectors; in
    eval mode.
    """
    role.model.eval()
    with torch.no_grad():
        if task.objective.task == "features":
            return role.vectors(task.batch())
        if task.objective.task == "sequence_score":
            return role.class_logits(task.batch())
        if task.objective.task == "question_answering":
            return role.span_logits(task.batch())
        if task.objective.task == "sequence_classification":
            return role.class_logits(task.batch()).float().log_softmax(-1)
        if task.objective.task == "token_classification":
            return role.token_logits(task.batch()).float().log_softmax(-1)
        return role.logps(task.batch())


def train(model: torch.nn.Module, pad: int, adaptation: Adaptation, task: Task, steps: int = STEPS) -> list[float]:
    """Steps of AdamW as the engine makes them; their losses. All that is ever unfrozen moves from the first one.

    What is solved takes no step: the losses are those before and after.
    """
    if adaptation.solved:
        models = models_of(task.objective, role_of(model, pad))
        before = mean_loss(task.objective, models, [task.batch()])
        with still(model):
            adaptation.solve(models.policy, [task.batch()])
        return [before, mean_loss(task.objective, models, [task.batch()])]
    optimizer, schedule = build("optimizers", "adamw"), build("schedules", "constant")
    assert isinstance(schedule, Schedule)
    stepper = Stepper(optimizer, schedule, adaptation.groups(model), lr=1e-3, total=steps, clip=1.0)  # type: ignore[arg-type]
    models = models_of(task.objective, role_of(model, pad))
    adaptation.at(1.0, model)
    losses = []
    for step in range(steps):
        losses.append(accumulate(task.objective, (), models, [task.batch()]).loss)
        stepper.gradient_norm()
        stepper.step(step)
    return losses


# ---- the page --------------------------------------------------------------------------------------------------------

HEAD = """# What composes with what

Every objective with every adaptation, each in its defaults, on a tiny model of each kind. This page is written by
`python tools/write_compositions.py`, which puts each two together and asks for the plain model; a test does the same
and compares. Another trains each that is not refused here for three steps, saves, loads and merges it.

"trains" means that the loss is finite and falls (where anything is learned), that exactly the named share of the
weights moves, and that the saved weights give the same answers in a fresh model. "merges" means that it becomes a plain
model with the same answers.
An encoder-decoder learns by `seq2seq` alone, and nothing else learns by it; other pairs of these are refused by name.

| model | objective | adaptation | | weights that move |
|---|---|---|---|---|
"""


def page() -> str:
    """The table as Markdown."""
    lines: list[str] = []
    reasons: list[str] = []
    for one in compositions():
        outcome, moved = _outcome(one, reasons)
        names = f"`{one.objective.component_name()}` | `{one.adaptation.component_name()}`"
        lines.append(f"| {WORDS[one.kind]} | {names} | {outcome} | {moved} |")
    notes = [f"{number}. {reason}." for number, reason in enumerate(reasons, 1)]
    return HEAD + "\n".join(lines) + "\n\n## Reasons\n\n" + "\n".join(notes) + "\n"


def _outcome(one: Composition, reasons: list[str]) -> tuple[str, str]:
    """What came of it in words, with the number of a reason, and the share of weights that move."""
    refusal = one.refusal()
    if refusal is not None:
        return f"refused ({_noted(refusal, reasons)})", ""
    task = one.task()
    loaded = one.load(task)
    model = one.adapted(loaded)
    moving = sum(p.numel() for group in one.adaptation.groups(model) for _, p in group.parameters)
    share = moving / sum(p.numel() for p in model.parameters())
    try:
        one.adaptation.merge(model)
    except ModelError as error:
        return f"trains, does not merge ({_noted(error.problems[0].found, reasons)})", f"{share:.1%}"
    return "trains, merges", f"{share:.1%}"


def _noted(reason: str, reasons: list[str]) -> int:
    if reason not in reasons:
        reasons.append(reason)
    return reasons.index(reason) + 1
