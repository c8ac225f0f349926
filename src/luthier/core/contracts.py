"""The protocols of the catalog and the small types they pass to each other.

A row of data takes five hops: a format reads it into an `Example`; steps pass it on or drop it; an objective encodes it
into `Row`s; the stream packs rows into a `Batch`; the objective turns a batch into `Term`s. What is measured afterwards
lies in `evidence.py`. Nothing here imports torch at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from .batch import Batch, Bools, Floats, Ints, Row, Term
from .component import Component
from .encoder import Encoder
from .example import Example
from .role import Models, Role

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = [
    "WRITERS",
    "Adaptation",
    "Batch",
    "Bools",
    "Encoder",
    "Floats",
    "Format",
    "Ints",
    "Ledger",
    "Models",
    "Objective",
    "Optimizer",
    "ParameterGroup",
    "Penalty",
    "Role",
    "Row",
    "Schedule",
    "Step",
    "StepContext",
    "Task",
    "Term",
]

Task = Literal[
    "causal_lm",
    "features",
    "masked_lm",
    "question_answering",
    "seq2seq",
    "sequence_classification",
    "sequence_score",
    "token_classification",
]
"""The head that an objective needs: words that go on, none (vectors of texts), words in place of masks, where an answer
begins and ends, an answer's words by a decoder that is told from what an encoder read, classes of a text, a number for
it, classes of each token.
"""

WRITERS: frozenset[Task] = frozenset({"causal_lm", "seq2seq"})
"""Tasks whose model answers in words: its output layer is the checkpoint's own, and it generates."""


# ---- data ------------------------------------------------------------------------------------------------------------


class Ledger(Protocol):
    """Where every dropped or changed row is written down, with its reason."""

    def drop(self, example: Example, reason: str, *, of: str | None = None) -> None:
        """The example leaves; `of` names the id of the row that stays in its place (duplicates)."""
        ...

    def change(self, before: Example, after: Example, reason: str) -> None:
        """The example goes on in another form; both are kept."""
        ...

    def note(self, example: Example, reason: str, *, of: str | None = None) -> None:
        """Nothing was done to the example, but its reader should know (a near copy in another split)."""
        ...

    def add(self, example: Example, reason: str) -> None:
        """The example is new; its origin names the rows that it was made from."""
        ...


@dataclass(frozen=True)
class StepContext:
    """What a step is handed: the split it works on, the ledger, a seed, and the other splits, read only.

    facts: plain values that the step measured on this split, for summary and report: it puts them in.
    """

    split: str
    seed: int
    ledger: Ledger
    others: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class Format(Component):
    """Turns one record (the parsed object of a line, or a row of a table) into an Example's contents."""

    sample: ClassVar[Mapping[str, Any]]
    """A record of this format, for its documentation and the conformance suite."""

    file_kind: ClassVar[str | None] = None
    """The kind of file ("conll") that plain text is taken for where a recipe names this format."""

    def recognizes(self, record: Mapping[str, Any]) -> bool:
        """Whether a record has this format's keys; must be strict, since detection asks every format."""
        raise NotImplementedError(type(self).__name__)

    def rows(self, document: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
        """The records of a file that is one object and holds many; None where the object is a record itself.

        What is damaged in it stays as a record, so that reading it says what is wrong.
        """
        return None

    def contents(self, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """`parts`, and optionally `target`, `groups`, `weight`, for Example(...). A ValueError says what is wrong."""
        raise NotImplementedError(type(self).__name__)


class Step(Component):
    """Examples in, examples out. What is dropped or changed goes to the ledger with its reason."""

    scope: ClassVar[Literal["row", "corpus"]]
    """"row": looks at one example at a time; "corpus": must see all of them."""

    splits: ClassVar[Literal["all", "train"]] = "all"
    """"train": what is measured stays as it is (steps that add, choose or weigh rows)."""

    def outside(self) -> Sequence[str]:
        """Files and folders that the step reads, besides its rows: where they change, preparation begins anew."""
        return ()

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        """The examples that stay, in order, changed or not; new ones carry their parents in `origin`."""
        raise NotImplementedError(type(self).__name__)

    def hide(self, text: str) -> str:
        """A text as it may stand in the ledger once this step has run; what earlier steps wrote goes through it."""
        return text


# ---- training --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate (the phase's times `scale`); `decay`: whether weight decay applies.

    hidden: names of those that are matrices between embeddings and output, which some optimizers move by another rule.
    """

    name: str
    parameters: Sequence[tuple[str, nn.Parameter]]
    scale: float = 1.0
    decay: bool = True
    hidden: frozenset[str] = frozenset()


class Objective(Component):
    """What is minimized. Encodes examples, counts without a model, and gives sums that the engine divides by counts."""

    needs: ClassVar[frozenset[str]]
    """Parts of an Example, any one of which it can encode."""
    task: ClassVar[Task]
    """The head that the model must have."""
    roles: ClassVar[frozenset[str]] = frozenset()
    """Whom `precompute` asks: "reference", the policy as the phase finds it, and those of `sources`."""
    asked_with: ClassVar[tuple[str, ...]] = ()
    """Parameters that `precompute` depends on: what was kept under others is asked again."""
    of_tokens: ClassVar[frozenset[str]] = frozenset()
    """What `precompute` gives of each supervised token ([N, ...]) and not of each row; it is in `Batch.tokens`."""
    other_tokenizers: ClassVar[bool] = False
    """Whether the models of `sources` may have tokenizers of their own, which `encode` finds in `Encoder.beside`."""
    coupled: ClassVar[bool] = False
    """Whether a row's loss depends on the other rows of its step (in-batch negatives). Micro-batches are then as large
    as memory allows, since what `collect` must find out of several costs a forward pass more.
    """

    def sources(self) -> Mapping[str, str]:
        """The models (folder, run, embedded:NAME, hub id) that stand in other roles than "reference", by role."""
        return {}

    @property
    def asked_throughout(self) -> bool:
        """Whether the loss asks the models of `sources` too; otherwise they are let go before the first step."""
        return False

    @property
    def writes(self) -> tuple[float, int]:
        """Of which share of a step's rows the policy writes the last answer itself, and of how many tokens at most."""
        return 0.0, 0

    def survey(self, examples: Sequence[Example]) -> dict[str, Any]:
        """What must be known of the training data before encoding (classes, their weights), as plain JSON values."""
        return {}

    def require(self, held_out: Sequence[Example], facts: Mapping[str, Any]) -> None:
        """Errors: DataError, before anything is trained, for rows to measure on that do not go with the surveyed facts;
        all of them counted.
        """

    def encode(self, example: Example, encoder: Encoder) -> list[Row]:
        """The example as token rows; none where there is nothing to learn. Errors: DataError for unusable parts."""
        raise NotImplementedError(type(self).__name__)

    def renewal(self, encoder: Encoder, seed: int) -> Callable[[Row, int], Row] | None:
        """What gives an encoded row the form that it has in an epoch (from 0), such as masks drawn anew.

        A pure function of row, epoch and `seed`, called in any order and thread; length and weight stay. None: rows
        are learned as they were encoded. What is measured always is.
        """
        return None

    def complete(self, rows: Sequence[Row], seed: int) -> list[Row]:
        """The encoded rows of a split with what each needs of others (KTO: an answer to another prompt)."""
        return list(rows)

    def begin(self, models: Models) -> nn.Module | None:
        """What is trained for this loss alone beside the policy, such as a value head: found in `models.own`, kept in
        checkpoints, and let go with the phase. In float32, on the policy's device, and the same for every call.
        """
        return None

    @property
    def own_rate(self) -> float:
        """The learning rate of what `begin` gives, as a multiple of the phase's."""
        return 1.0

    def precompute(self, models: Models, batch: Batch) -> dict[str, Tensor]:
        """[S, ...] fields that `roles` give the rows: asked once, before the first step and without gradients, kept in
        the run's folder, and found in every later batch. They depend on the role, the row and `asked_with` alone.
        """
        return {}

    def settle(
        self, rows: Sequence[Row], examples: Mapping[str, Example], facts: Mapping[str, Any], ledger: Ledger
    ) -> list[Row]:
        """The rows of a split that are learned, once `precompute` has answered (self-training: those that the teacher
        is sure of). examples: by id. What becomes of rows that are not learned as they were is told to the ledger.
        """
        return list(rows)

    @property
    def averaging(self) -> float | None:
        """The decay of `Models.average`, a mean of the policy's weights over the steps, which is then what is validated
        and kept of the phase; None: there is none.
        """
        return None

    def collect(self, models: Models, batches: Sequence[Batch]) -> Sequence[Batch]:
        """The micro-batches of a step with what the loss must know of the whole step; without gradients, before counts
        and losses. None is left out, and each keeps its rows.
        """
        return batches

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """[S] for each term, known without a model: supervised tokens, or 1 a sequence; times the weights."""
        raise NotImplementedError(type(self).__name__)

    def loss(self, models: Models, batch: Batch) -> list[Term]:
        """Sums, one a sequence ([S]), named as in `counts`; zero and attached where nothing is supervised."""
        raise NotImplementedError(type(self).__name__)


class Penalty(Component):
    """A term beside any objective: L2-SP, EWC, LwF."""

    def begin(self, model: nn.Module) -> Mapping[str, Tensor] | None:
        """State recorded before the first step of the phase; it is handed back to every call of `terms`."""
        raise NotImplementedError(type(self).__name__)

    def terms(self, models: Models, batch: Batch | None, state: Any) -> list[Term]:
        """Terms of shape [1]; called once a step with batch None, counted 1."""
        raise NotImplementedError(type(self).__name__)


class Adaptation(Component):
    """Which weights move: freezes, injects, groups, saves, loads and merges."""

    usual_lr: ClassVar[float]
    """The peak learning rate for AdamW where the recipe names none."""

    begins_at_base: ClassVar[bool] = True
    """Whether the adapted model's first outputs are the given model's, bit for bit; a prompt's cannot be."""

    solved: ClassVar[bool] = False
    """Whether `solve` finds what trains at once, in place of steps."""

    fits: ClassVar[bool] = True
    """Whether what trains is fitted to the training rows, so that their loss falls; not where nothing is learned."""

    words: ClassVar[bool] = False
    """Whether classes are told by a language model's own words: it is then loaded as such, without a head."""

    @property
    def extra(self) -> str | None:
        """The extra of this package without which it finds nothing; known before any phase is trained."""
        return None

    @property
    def learns_tokens(self) -> bool:
        """Whether the rows of new tokens train, in the embedding and in the output layer."""
        return False

    @property
    def positions(self) -> int:
        """How many of the model's positions it takes before each text."""
        return 0

    def sources(self) -> Sequence[str]:
        """The models (folder, run, embedded:NAME, hub id) that it asks beside the one that it adapts, for vectors."""
        return ()

    def apply(self, model: nn.Module) -> nn.Module:
        """The model with requires_grad set and modules injected; at step 0 its outputs equal the given model's (but for
        a part that is `solved`).
        """
        raise NotImplementedError(type(self).__name__)

    def furnish(self, model: nn.Module, tokenizer: Any) -> None:
        """Hands an adapted model the tokenizer, where it writes texts of its own (prompts); usually nothing."""

    def solve(self, role: Role, batches: Iterable[Batch]) -> None:
        """Finds what trains from all rows of the training data, where `solved`; the model is still meanwhile."""
        raise NotImplementedError(type(self).__name__)

    def groups(self, model: nn.Module) -> list[ParameterGroup]:
        """All parameters that this adaptation will ever train, in groups, in a stable order."""
        raise NotImplementedError(type(self).__name__)

    def at(self, progress: float, model: nn.Module) -> None:
        """Called before each step with the share of steps done (0 to 1): gradual unfreezing; usually nothing."""

    def save(self, model: nn.Module, folder: Path) -> None:
        """Writes the trained weights; PEFT's own files where PEFT has the method."""
        raise NotImplementedError(type(self).__name__)

    def load(self, model: nn.Module, folder: Path) -> None:
        """Reads them into an adapted model, strictly: a missing or unexpected key is a ModelError."""
        raise NotImplementedError(type(self).__name__)

    def merge(self, model: nn.Module) -> nn.Module:
        """The plain model with the adaptation folded in; a ModelError with the reason where it cannot be."""
        raise NotImplementedError(type(self).__name__)


class Optimizer(Component):
    """Builds a torch optimizer. `lr` is the peak; None takes the adaptation's usual rate."""

    lr: float | None
    weight_decay: float

    def make(self, groups: Sequence[Mapping[str, Any]]) -> torch.optim.Optimizer:
        """`groups`: torch parameter groups with lr, weight_decay, and `hidden`, the set of their hidden matrices."""
        raise NotImplementedError(type(self).__name__)


class Schedule(Component):
    """A multiplier of the learning rate."""

    def at(self, step: int, total: int) -> float:
        """The multiplier (0 to 1) for step `step` of `total`, counted from 0."""
        raise NotImplementedError(type(self).__name__)
