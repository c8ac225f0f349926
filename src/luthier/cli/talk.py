"""Talking with a run's model: one prompt, or a conversation in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from ..core.errors import LuthierError
from ..core.example import Turn
from ..core.printable import printable

__all__ = ["Talker", "converse", "say"]


class Talker:
    """A run's result (or a model folder), ready to answer. Decoding follows the run's recipe unless given.

    Errors: LuthierError where the folder holds no model yet.
    """

    def __init__(self, folder: Path, max_new_tokens: int | None, temperature: float | None, seed: int) -> None:
        from ..core.recipe import Decoding, Machine
        from ..core.recipe_file import load_recipe

        model = folder / "model" if (folder / "recipe.yaml").exists() else folder
        if not (model / "config.json").exists():
            raise _absent(folder)
        from ..data.template import template_for
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
        self.loaded = load_model(str(model), "causal_lm", dtype=compute.dtype, device=compute.device, seed=seed)
        self.template = template_for(self.loaded.tokenizer)
        self.seed = seed

    def answer(self, turns: Sequence[tuple[str, str]]) -> str:
        """The model's next turn after (role, content) pairs."""
        from ..models.generate import generate

        prompt = self.template.prompt([Turn(role, content) for role, content in turns])
        ids = generate(
            self.loaded.model,
            [prompt],
            stop=self.template.stop,
            pad=self.loaded.tokenizer.pad_token_id,
            max_new_tokens=self.decoding.max_new_tokens,
            temperature=self.decoding.temperature,
            top_p=self.decoding.top_p,
            seeds=[self.seed + len(turns)],
        )[0]
        return str(self.loaded.tokenizer.decode(ids, skip_special_tokens=True)).strip()


def say(text: str) -> None:
    """Prints what a model wrote: byte for byte into a pipe, without what a terminal would obey on a terminal."""
    typer.echo(printable(text) if sys.stdout.isatty() else text)


def _absent(folder: Path) -> LuthierError:
    """What is there in place of a model, and what to do about it."""
    expected = "the folder of a run, or of a model in Hugging Face format"
    if not folder.is_dir():
        return LuthierError("there is no such folder", where=str(folder), expected=expected)
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
    """Reads lines, answers each with the whole conversation in view."""
    turns: list[tuple[str, str]] = []
    while True:
        try:
            said = input("you> ").strip()
        except (EOFError, KeyboardInterrupt):
            typer.echo("")
            return
        if not said:
            return
        turns.append(("user", said))
        reply = talker.answer(turns)
        turns.append(("assistant", reply))
        say(f"model> {reply}")
