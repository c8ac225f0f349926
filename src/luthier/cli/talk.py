"""Talking with a run's model: one prompt, or a conversation in the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..core.errors import LuthierError
from ..core.example import Example, Origin, Turn
from ..core.printable import printable

if TYPE_CHECKING:
    from torch import Tensor

    from ..core.contracts import Task

__all__ = ["Talker", "classify", "config_of", "converse", "is_classifier", "marks_spans", "model_of", "named", "say"]

SHOWN_CLASSES = 5
_ANY_LENGTH = 2**30
_MARKS: dict[str, Task] = {
    "ForTokenClassification": "token_classification",
    "ForQuestionAnswering": "question_answering",
}


class Talker:
    """A run's result (or a model folder), ready to answer. Decoding follows the run's recipe unless given.

    Errors: LuthierError where the folder holds no model yet.
    """

    def __init__(self, folder: Path, max_new_tokens: int | None, temperature: float | None, seed: int) -> None:
        from ..core.recipe import Decoding, Machine
        from ..core.recipe_file import load_recipe

        model = model_of(folder)
        _refuse_wordless(folder)
        from ..data.encode import Encoding
        from ..engine.device import choose
        from ..models.load import load_model

        recipe = load_recipe(folder) if (folder / "recipe.yaml").exists() else None
        machine, decoding = (recipe.machine, recipe.decoding) if recipe else (Machine(), Decoding())
        self.decoding = decoding.model_copy(
            update={
                key: value
                for key, value in (("max_new_tokens", max_new_tokens), ("temperature", temperature))
                if value is not None
            }
        )
        compute = choose(machine)
        self.reads = bool(config_of(folder).get("is_encoder_decoder"))
        task: Task = "seq2seq" if self.reads else "causal_lm"
        self.loaded = load_model(str(model), task, dtype=compute.dtype, device=compute.device, seed=seed)
        # No limit here: a prompt that the model cannot take is told where it answers.
        self.encoding = Encoding(self.loaded.tokenizer, max_length=_ANY_LENGTH)
        self.template = None if self.reads else self.encoding.template
        self.folder, self.seed = folder, seed

    def answer(self, turns: Sequence[tuple[str, str]]) -> str:
        """The model's next turn after (role, content) pairs."""
        from ..models.generate import generate

        said = tuple(Turn(role, content) for role, content in turns)
        prompt = self._read(said) if self.template is None else self.template.prompt(said)
        ids = generate(
            self.loaded.model,
            [prompt],
            stop=self.encoding.stop,
            pad=self.loaded.tokenizer.pad_token_id,
            max_new_tokens=self.decoding.max_new_tokens,
            temperature=self.decoding.temperature,
            top_p=self.decoding.top_p,
            seeds=[self.seed + len(turns)],
        )[0]
        return str(self.loaded.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def _read(self, said: tuple[Turn, ...]) -> list[int]:
        return self.encoding.prompt_to_read(Example("asked", {"messages": said}, Origin("asked", 1)))


def model_of(folder: Path) -> Path:
    """The model's folder of a run, or the folder itself. Errors: LuthierError where there is no model."""
    model = folder / "model" if (folder / "recipe.yaml").exists() else folder
    if not (model / "config.json").exists():
        raise _absent(folder)
    return model


def is_classifier(folder: Path) -> bool:
    """Whether the run's model names classes instead of writing text."""
    from ..models.carried import carried_in

    named = any(
        str(name).endswith("ForSequenceClassification") for name in config_of(folder).get("architectures") or ()
    )
    carried = None if named else carried_in(model_of(folder))
    return named or (carried is not None and carried.words)


def marks_spans(folder: Path) -> Task | None:
    """The task of the run's model where it marks parts of a text; None for one that writes or names classes."""
    kinds = [str(name) for name in config_of(folder).get("architectures") or ()]
    return next((task for end, task in _MARKS.items() if any(kind.endswith(end) for kind in kinds)), None)


def _refuse_wordless(folder: Path) -> None:
    """Errors: LuthierError for a model that names classes, marks parts of a text or gives vectors."""
    task = marks_spans(folder)
    if task is None and not is_classifier(folder):
        if (model_of(folder) / "modules.json").is_file():
            raise LuthierError(
                "the model gives vectors of texts and writes none",
                where=str(folder),
                remedy=f'in Python: luthier.models.embed.load_embedder("{folder}").embed(["TEXT"])',
            )
        return
    told = {
        None: ("names classes", "TEXT names the classes of a text"),
        "token_classification": ("marks parts of a text", "TEXT marks them"),
        "question_answering": ("finds answers in a passage", "QUESTION --context PASSAGE finds one"),
    }
    does, how = told[task]
    raise LuthierError(
        f"the model {does} and writes no text", where=str(folder), remedy=f"luthier generate {folder} {how}"
    )


def config_of(folder: Path) -> dict[str, Any]:
    """The configuration of the run's model. Errors: LuthierError where there is no model."""
    config: dict[str, Any] = json.loads((model_of(folder) / "config.json").read_text(encoding="utf-8"))
    return config


def classify(folder: Path, text: str) -> list[tuple[str, float]]:
    """The most probable classes of a text, at most five, with their probabilities (of several labels each its own)."""
    return _classes(*_logits(folder, text))


def named(folder: Path, text: str) -> str:
    """What a classifier says of a text, a class a line; or the number that the model gives, in its data's units."""
    logits, config = _logits(folder, text)
    if config.problem_type == "regression":
        target = getattr(config, "target", None) or {"mean": 0.0, "spread": 1.0}
        return f"{float(logits[0]) * target['spread'] + target['mean']:.4g}"
    return "\n".join(f"{chance:7.2%}  {name}" for name, chance in _classes(logits, config))


def _logits(folder: Path, text: str) -> tuple[Tensor, Any]:
    """[C] logits of the text, and the model's configuration."""
    import torch

    from ..models.export import reload
    from ..models.prompt import text_room

    task = "sequence_score" if config_of(folder).get("problem_type") == "regression" else "sequence_classification"
    loaded = reload(model_of(folder), task)  # type: ignore[arg-type]
    limit = text_room(loaded.model) or 512
    encoded = loaded.tokenizer(text, return_tensors="pt", truncation=True, max_length=limit)
    with torch.inference_mode():
        return loaded.model(**encoded).logits[0].double(), loaded.model.config


def _classes(logits: Tensor, config: Any) -> list[tuple[str, float]]:
    several = config.problem_type == "multi_label_classification"
    chances = logits.sigmoid() if several else logits.softmax(-1)
    order = sorted(range(len(chances)), key=lambda index: (-float(chances[index]), index))
    return [(str(config.id2label[index]), float(chances[index])) for index in order[:SHOWN_CLASSES]]


def say(text: str) -> None:
    """Prints what a model wrote: byte for byte into a pipe, without what a terminal would obey on a terminal."""
    typer.echo(printable(text) if sys.stdout.isatty() else text)


def _absent(folder: Path) -> LuthierError:
    """What is there in place of a model, and what to do about it."""
    expected = "the folder of a run, or of a model in Hugging Face format"
    if not folder.is_dir():
        shipped = str(folder).startswith("embedded:")
        remedy = f"tune it first: luthier run RECIPE model={folder}" if shipped else None
        return LuthierError("there is no such folder", where=str(folder), expected=expected, remedy=remedy)
    seeds = sorted((folder / "seeds").glob("seed-*/model"))
    if seeds:
        found = "the run was repeated over seeds, and each has a model of its own"
        return LuthierError(found, where=str(folder), expected=expected, remedy=f"name one of them: {seeds[0].parent}")
    if not (folder / "recipe.yaml").exists():
        remedy = "luthier run RECIPE makes a run with its model, luthier export RUN writes it again"
        return LuthierError("the folder holds no model", where=str(folder), expected=expected, remedy=remedy)
    return LuthierError(
        "the run has no model yet", where=str(folder), expected=expected, remedy=f"luthier export {folder} writes it"
    )


def converse(talker: Talker) -> None:
    """Reads lines, answers each with the whole conversation in view.

    Errors: LuthierError for an encoder-decoder, which answers one prompt.
    """
    if talker.reads:
        raise LuthierError(
            "the model is an encoder-decoder, which reads one prompt and holds no conversation",
            where=str(talker.folder),
            expected="a language model with a chat template",
            remedy=f"luthier generate {talker.folder} TEXT answers one prompt",
        )
    turns: list[tuple[str, str]] = []
    # Into or out of a pipe only what the model wrote is of use.
    asks, names = ("you> ", "model> ") if sys.stdin.isatty() and sys.stdout.isatty() else ("", "")
    while True:
        try:
            said = input(asks).strip()
        except (EOFError, KeyboardInterrupt):
            if asks:
                typer.echo("")
            return
        if not said:
            return
        turns.append(("user", said))
        reply = talker.answer(turns)
        turns.append(("assistant", reply))
        say(f"{names}{reply}")
