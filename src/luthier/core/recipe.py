"""The recipe: one schema for YAML, overrides on the command line, JSON and Python."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from .component import Component, Slot
from .database import query_problems
from .errors import Problem, RecipeError
from .problems import problems_of, refused
from .rules import recipe_problems
from .strict import Strict

if TYPE_CHECKING:
    from .contracts import Adaptation as AdaptationSlot
    from .contracts import Format as FormatSlot
    from .contracts import Objective as ObjectiveSlot
    from .contracts import Optimizer as OptimizerSlot
    from .contracts import Penalty as PenaltySlot
    from .contracts import Schedule as ScheduleSlot
    from .contracts import Step as StepSlot
    from .evidence import Check as CheckSlot
else:
    FormatSlot, StepSlot, ObjectiveSlot = Slot("formats"), Slot("steps"), Slot("objectives")
    PenaltySlot, AdaptationSlot = Slot("penalties"), Slot("adaptations")
    OptimizerSlot, ScheduleSlot, CheckSlot = Slot("optimizers"), Slot("schedules"), Slot("checks")

__all__ = [
    "Checkpoints",
    "Data",
    "Decoding",
    "Export",
    "Machine",
    "Part",
    "PerStep",
    "Phase",
    "Recipe",
    "Source",
    "Watch",
]


Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What torch and numpy both take."""


_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)


def _portable(name: str) -> str:
    if _RESERVED.fullmatch(name) or name.endswith("."):
        raise refused(
            Problem(
                f"Windows cannot have a folder called '{name}'",
                expected="a name that every system can have, so that the run can travel",
                remedy="give it another",
            )
        )
    return name


FolderName = Annotated[str, Field(max_length=100), AfterValidator(_portable)]
"""A name that becomes a folder, wherever the run is taken."""


class Part(Strict):
    """A part of the recipe: frozen, closed to unknown keys."""


class Source(Part):
    """Where rows come from: a file, a folder of files, a query to a database, or several of them with weights."""

    path: str
    query: str | None = Field(
        None,
        description="one SELECT with ORDER BY; path is then a database's address, such as sqlite:///shop.db, "
        "or env:NAME of the environment variable that holds it",
    )
    format: FormatSlot | None = Field(None, description="named, or detected from the first records")
    columns: dict[str, str] = Field(default_factory=dict, description="this format's key: the file's own column")
    header: bool | None = Field(
        None,
        description="of CSV and TSV: whether the first line names the columns; false: they are called column_1, "
        "column_2, ...; default: it must, and is refused where it looks like a row",
    )
    weight: float = Field(1.0, gt=0, description="what each of its rows counts in the loss, beside others of 1")
    repeat: float = Field(
        1.0, gt=0, description="how often each of its rows comes in an epoch; 0.5: every second, others each time"
    )
    limit: int | None = Field(None, gt=0, description="only the first rows, for a quick look")

    @model_validator(mode="after")
    def _database(self) -> Source:
        for problem in query_problems(self.path, self.query):
            raise refused(problem)
        return self


class Data(Part):
    """What is trained and measured on. The split is fixed before any step that adds or drops rows."""

    train: Source | Annotated[tuple[Source, ...], Field(min_length=1)] = Field(
        description="the rows to learn from: a file, a folder, embedded:NAME, a hub id, or a list of these",
        examples=["rows.jsonl"],
    )
    validation: float | Source | None = Field(None, description="a share of train, or a path", examples=[0.1])
    test: float | Source | None = Field(None, description="a share of train, or a path", examples=[0.1])
    format: FormatSlot | None = Field(None, description="of every source that names none of its own")
    columns: dict[str, str] = Field(default_factory=dict, description="of every source that names none of its own")
    split_by: str | None = Field(None, description="a group of the rows (a column): all of its rows in one split")
    groups: tuple[str, ...] = Field((), description="further columns kept as groups")
    steps: tuple[StepSlot, ...] = ()
    bad_rows: Literal["stop", "quarantine"] = Field("stop", description="stop at unreadable rows, or set them aside")

    @field_validator("train", "validation", "test", mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        if isinstance(value, (str, Path)):
            return {"path": str(value)}
        if isinstance(value, (list, tuple)):
            return tuple({"path": str(item)} if isinstance(item, (str, Path)) else item for item in value)
        return value

    @model_validator(mode="after")
    def _shares(self) -> Data:
        shares = {name: share for name in ("validation", "test") if isinstance(share := getattr(self, name), float)}
        if any(not 0 < share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
            given = " and ".join(f"{name} {share:g}" for name, share in shares.items())
            together = all(0 < share < 1 for share in shares.values())
            problem = Problem(
                f"{given} are {sum(shares.values()):g} together"
                if together
                else f"{given}: a share lies between 0 and 1",
                expected="shares that leave something to train on",
                remedy="data.validation=0.1 sets a tenth aside",
            )
            raise refused(problem)
        return self

    def sources(self, split: str) -> tuple[Source, ...]:
        """The sources given for a split, empty where it is a share or absent."""
        value = getattr(self, split)
        given = (value,) if isinstance(value, Source) else value if isinstance(value, tuple) else ()
        return tuple(
            source.model_copy(
                update={"format": source.format or self.format, "columns": source.columns or self.columns}
            )
            for source in given
        )


class PerStep(Part):
    """How much one optimizer step sees: a budget of tokens, or a number of rows."""

    tokens: int | None = Field(None, gt=0)
    rows: int | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _one(self) -> PerStep:
        if (self.tokens is None) == (self.rows is None):
            given = "both are given" if self.rows is not None else "neither is given"
            remedy = "per_step={tokens: 4096}, or per_step={rows: 64}"
            raise refused(Problem(f"per_step takes tokens or rows, and {given}", expected="one of them", remedy=remedy))
        return self


class Watch(Part):
    """Validation while training: how often, when to stop early, whether the best checkpoint is the result."""

    every: int | None = Field(None, gt=0, description="steps between validations; default: ten times a phase")
    patience: int | None = Field(None, gt=0, description="validations without a better loss before training stops")
    keep_best: bool = Field(True, description="the phase's result is the best checkpoint, not the last")
    rows: int | None = Field(None, gt=0, description="at most so many validation rows, the first by seed")


class Checkpoints(Part):
    """How often the whole state is written, and how many are kept beside the best."""

    every: int | None = Field(None, gt=0, description="steps between checkpoints; default: with each validation")
    keep: int = Field(2, ge=1, description="the newest so many; with 2 a damaged one is replaced by the one before")


class Phase(Part):
    """One training phase: an objective, an adaptation, and how long."""

    name: FolderName = Field("train", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    objective: ObjectiveSlot = Field("causal_lm", validate_default=True)
    adaptation: AdaptationSlot = Field("full", validate_default=True)
    penalties: tuple[PenaltySlot, ...] = ()
    optimizer: OptimizerSlot = Field("adamw", validate_default=True)
    schedule: ScheduleSlot = Field("cosine", validate_default=True)
    epochs: float | None = Field(
        None, gt=0, le=100_000, description="passes over the data; default 1 where steps is not given"
    )
    steps: int | None = Field(None, gt=0, le=10**9)
    per_step: PerStep = PerStep(tokens=4096)
    max_length: int | None = Field(
        None, gt=1, description="longest sequence, in tokens; default: the model's, at most 2048"
    )
    overlong: Literal["trim_prompt", "drop", "error"] = Field(
        "trim_prompt", description="what happens to rows over max_length; an answer's end is never cut"
    )
    clip: float | None = Field(1.0, gt=0, description="largest gradient norm; null switches it off")
    dropout: float | None = Field(None, ge=0, lt=1, description="sets every dropout; default: the model's own")
    embedding_noise: float = Field(0.0, ge=0, description="NEFTune's alpha; 0 is off")
    watch: Watch = Watch()
    checkpoints: Checkpoints = Checkpoints()
    data: Data | None = Field(None, description="default: the recipe's data")
    keep_layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (),
        description="the layers (from 0) that stay of the model that the phase starts from; default: all",
    )
    from_: str | None = Field(
        None, alias="from", description="the phase or run it starts from; default: the phase before"
    )

    @model_validator(mode="after")
    def _length(self) -> Phase:
        if self.epochs is not None and self.steps is not None:
            found = "a phase takes epochs or steps, not both"
            remedy = (
                "remove the one that is not meant; on the command line: epochs=null steps=20, or the other way round"
            )
            raise refused(Problem(found, expected="one of them", remedy=remedy))
        return self


class Decoding(Part):
    """How answers are generated for checks and samples. temperature 0 is greedy."""

    max_new_tokens: int = Field(128, gt=0)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)


class Machine(Part):
    """What to run on. Everything is chosen by itself unless named."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    dtype: Literal["auto", "bfloat16", "float32"] = Field(
        "auto", description="of frozen weights and products; what is trained keeps float32 masters"
    )
    micro_tokens: int | None = Field(None, gt=0, description="tokens in one forward pass; default: what memory allows")
    gradient_checkpointing: bool | Literal["auto"] = Field(
        "auto",
        description="compute blocks again in the backward pass, in less memory and more time; auto: where it must be",
    )
    threads: int | None = Field(None, gt=0, le=1024)


class Export(Part):
    """How the result is written. dtype auto: as the base's own weights were."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"


DatasheetSection = Literal["motivation", "composition", "collection", "uses", "distribution", "maintenance"]


class Recipe(Part):
    """One run from raw data to evidence."""

    name: FolderName = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="the run folder's name", examples=["tales"]
    )
    about: str | None = Field(None, description="one sentence for the model card")
    model: str = Field(
        description="embedded:nano, embedded:minilm, a folder, an earlier run, or hub-id[@revision]",
        examples=["embedded:nano"],
    )
    chat_template: str | None = Field(
        None, description="'plain', or the path of a Jinja file; default: the template that the model brings"
    )
    new_tokens: tuple[str, ...] = Field(
        (), description="texts that get a token of their own; their rows start at the mean of their pieces' and train"
    )
    license: str | None = Field(None, description="of the result, for the model card")
    datasheet: dict[DatasheetSection, str] = Field(
        default_factory=dict, description="what only people can tell about the data, for its datasheet"
    )
    data: Data = Field(description="what is trained and measured on", examples=[{"train": "rows.jsonl"}])
    phases: tuple[Phase, ...] = Field((Phase(),), min_length=1)
    checks: tuple[CheckSlot, ...] = ()
    gates: tuple[str, ...] = ()
    decoding: Decoding = Decoding()
    seed: Seed | tuple[Seed, ...] = Field(1, description="a list repeats the run for each seed and reports the spread")
    export: Export = Export()
    machine: Machine = Machine()
    trackers: tuple[Literal["tensorboard"], ...] = ()

    @field_validator("gates", mode="before")
    @classmethod
    def _one_gate(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, one run each."""
        return self.seed if isinstance(self.seed, tuple) else (self.seed,)

    def data_of(self, phase: Phase) -> Data:
        """The data that a phase trains on: its own, or that of the recipe."""
        return phase.data or self.data

    def components(self) -> Iterable[tuple[str, Component, Phase | None]]:
        """Every component with its place in the recipe and the phase it belongs to."""
        for index, step in enumerate(self.data.steps):
            yield f"data.steps.{index}", step, None
        for number, phase in enumerate(self.phases):
            place = f"phases.{number}"
            for name in ("objective", "adaptation", "optimizer", "schedule"):
                yield f"{place}.{name}", getattr(phase, name), phase
            for index, penalty in enumerate(phase.penalties):
                yield f"{place}.penalties.{index}", penalty, phase
            for index, step in enumerate(phase.data.steps if phase.data else ()):
                yield f"{place}.data.steps.{index}", step, phase
        for index, check in enumerate(self.checks):
            yield f"checks.{index}", check, None

    def problems(self) -> list[Problem]:
        """Everything that can be known to be wrong before anything is loaded; empty when nothing is."""
        return recipe_problems(self)

    def plain(self) -> dict[str, Any]:
        """Plain values for YAML and JSON; reading them gives an equal recipe."""
        value: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return value

    @classmethod
    def of(cls, value: Mapping[str, Any] | Recipe, *, where: str = "recipe") -> Recipe:
        """A recipe from plain values. Errors: RecipeError with all problems, those of combinations included."""
        if isinstance(value, Recipe):
            recipe = value
        else:
            try:
                recipe = cls.model_validate(dict(value))
            except ValidationError as error:
                raise RecipeError(problems_of(error, cls)) from error
        problems = recipe.problems()
        if problems:
            raise RecipeError(problems)
        return recipe
