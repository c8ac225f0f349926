"""The command line. Every command is a thin door; what it does lives below, and is imported when it is called."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import LuthierError
from .data import data

__all__ = ["app", "main"]

INTERRUPTED = 130
"""The exit status after SIGTERM and Ctrl-C, as shells have it."""

BROKEN_PIPE = 141
"""The exit status where whoever read the output has gone, as shells have it."""

app = typer.Typer(
    name="luthier",
    help="Fine-tune a language model from raw data to a model you can stand behind.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Exit codes: 0 done, 2 the recipe or its data is wrong, 3 a gate failed, 130 interrupted and resumable.",
)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from .. import __version__

        typer.echo(f"luthier {__version__}")
    elif context.invoked_subcommand is None:
        context.fail("Missing command.")


app.add_typer(data, name="data")

RecipeArgument = Annotated[str, typer.Argument(help="A recipe file, the name of one that ships, or a run folder.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="key.path=value, for example data.train=rows.jsonl epochs=2", show_default=False),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", help="The run folder; default: runs/NAME, or the run given.", show_default=False),
]
RunArgument = Annotated[Path, typer.Argument(help="A run folder.")]
Plain = Annotated[bool, typer.Option("--plain", help="Lines instead of a live display.")]


@app.command()
def run(recipe: RecipeArgument, overrides: Overrides = None, out: Out = None, plain: Plain = False) -> None:
    """Run a recipe from data to evidence; the same command resumes it."""
    _run(recipe, overrides, _folder_of(recipe, out), "report", plain)


@app.command()
def demo(overrides: Overrides = None, out: Out = None, plain: Plain = False) -> None:
    """Tune the embedded model on the embedded data, with a report, in a few minutes."""
    _run("demo", overrides, out, "report", plain)


@app.command()
def train(recipe: RecipeArgument, overrides: Overrides = None, out: Out = None, plain: Plain = False) -> None:
    """Prepare the data and train; checks and report can follow later."""
    _run(recipe, overrides, _folder_of(recipe, out), "train", plain)


@app.command()
def export(folder: RunArgument, plain: Plain = False) -> None:
    """Write a run's model in Hugging Face format, with adapters folded in."""
    _run(str(_run_folder(folder)), None, folder, "export", plain)


@app.command()
def check(folder: RunArgument, overrides: Overrides = None, plain: Plain = False) -> None:
    """Measure a run again: checks, gates, report. Overrides change them: checks.text_match.limit=500"""
    _run(str(_run_folder(folder)), overrides, folder, "report", plain)


@app.command()
def plan(recipe: RecipeArgument, overrides: Overrides = None) -> None:
    """Show what a run would do and cost, and the first encoded examples, before any training."""
    _early_errors(recipe, overrides)
    from ..plan.plan import plan as make
    from ..plan.show import show

    show(make(recipe, overrides or ()))


@app.command()
def generate(
    folder: RunArgument,
    prompt: Annotated[str, typer.Argument(help="What the user says, or the text to classify; - reads standard input.")],
    max_new_tokens: Annotated[int | None, typer.Option(min=1, show_default=False)] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, show_default=False)] = None,
    context: Annotated[
        str | None,
        typer.Option(help="The passage that holds the answer, or its file; - is standard input.", show_default=False),
    ] = None,
    seed: int = 1,
) -> None:
    """Answer one prompt with a run's model; a classifier names its most probable classes, a tagger prints what it marks
    as JSON, and so does a question-answering model, which reads the passage given by --context.
    """
    from .talk import Talker, is_classifier, marks_spans, named, say

    if prompt == "-" == context:
        raise LuthierError("question and passage are both standard input", expected="one of them as text, or a file")
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise LuthierError("the prompt is empty", expected="a text for the model to answer")
    task = marks_spans(folder)
    for option, given in (("max-new-tokens", max_new_tokens), ("temperature", temperature)):
        if given is not None and (task is not None or is_classifier(folder)):
            raise LuthierError(
                f"--{option} is read by nothing: the model writes no text", where=str(folder), remedy="leave it out"
            )
    if task is not None or context is not None:
        say(_marked(folder, text, context, task))
        return
    if is_classifier(folder):
        say(named(folder, text))
        return
    say(Talker(folder, max_new_tokens, temperature, seed).answer([("user", text)]))


def _marked(folder: Path, text: str, context: str | None, task: str | None) -> str:
    """What a model marks in a text, or in a passage, as JSON."""
    import json

    from .marks import answer_in, marked, passage_of

    if task != "question_answering" and context is not None:
        raise LuthierError(
            "the model reads no passage beside the prompt", where=str(folder), remedy="leave --context out"
        )
    if task != "question_answering":
        return json.dumps(marked(folder, text), ensure_ascii=False)
    if context is None:
        raise LuthierError(
            "the question needs a passage that holds its answer",
            where=str(folder),
            expected="--context with the passage, or the name of its file",
        )
    return json.dumps(answer_in(folder, text, passage_of(context)), ensure_ascii=False)


@app.command()
def chat(
    folder: RunArgument,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, show_default=False)] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, show_default=False)] = None,
    seed: int = 1,
) -> None:
    """Talk with a run's model; an empty line or Ctrl-D ends."""
    from .talk import Talker, converse

    converse(Talker(folder, max_new_tokens, temperature, seed))


@app.command()
def compare(first: RunArgument, second: RunArgument) -> None:
    """Hold two runs against each other on the same items, with a paired test."""
    from ..evaluate.compare import compare as comparing
    from .tables import show_comparison

    show_comparison(first, second, comparing(_run_folder(first), _run_folder(second)))


@app.command()
def merge(
    adapters: Annotated[list[str], typer.Argument(help="Adapter or run folders, each with =WEIGHT where it is not 1.")],
    out: Annotated[Path, typer.Option("--out", help="The folder of the merged model.")],
    base: Annotated[str | None, typer.Option(help="The base; default: as the adapters name it.")] = None,
) -> None:
    """Add up LoRA adapters of one base and write the plain model: luthier merge runs/a=0.7 runs/b=0.3 --out both"""
    from .merge import merge_adapters

    for folder, weight in merge_adapters(adapters, out, base):
        typer.echo(f"{weight:>8g}  {folder}")
    typer.echo(f"written: {out}")


@app.command("list")
def list_(
    room: Annotated[str | None, typer.Argument(help="objectives, checks, recipes, ...", show_default=False)] = None,
) -> None:
    """Show every component that a recipe can name, and the recipes that ship."""
    from .tables import show_rooms

    show_rooms(room)


@app.command()
def schema() -> None:
    """Print the recipe's JSON schema, for editors."""
    import json

    from ..core.recipe import Recipe

    typer.echo(json.dumps(Recipe.model_json_schema(by_alias=True), indent=1))


@app.command()
def doctor() -> None:
    """Show versions, device, the dtype that pays here, memory, disk and extras."""
    from ..plan.doctor import examine
    from .tables import show_doctor

    show_doctor(examine())


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: user errors are printed with their remedy, without a traceback, and set the exit code."""
    try:
        with _terminable():
            # No command returns anything: what comes back is the status that typer made of an exit or a Ctrl-C.
            status = app(args=list(arguments) if arguments is not None else None, standalone_mode=False)
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        if status:
            sys.exit(status)
    except LuthierError as error:
        from .tables import show_error

        show_error(error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("interrupted; the same command goes on from the last checkpoint", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has gone. Python would complain about it once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")) and hasattr(error, "show"):
            error.show()
            _hint(error)
            sys.exit(2)
        import traceback

        from ..core.redact import redact

        # What other libraries raise may hold signed addresses and tokens.
        typer.echo(redact(traceback.format_exc()), err=True, nl=False)
        sys.exit(1)


def _hint(error: Exception) -> None:
    """Keys of a recipe are often given as options first, as other trainers have them."""
    from ..core.recipe import Phase, Recipe

    key = str(getattr(error, "option_name", "")).lstrip("-").replace("-", "_").partition(".")[0]
    if key in Recipe.model_fields or key in Phase.model_fields:
        typer.echo(f"{key} is a key of the recipe: write {key}=VALUE, without dashes.", err=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a command as Ctrl-C does; while a run is under way, it has a way of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(recipe: str, overrides: Sequence[str] | None, out: Path | None, until: str, plain: bool) -> None:
    from .progress import Console

    def folder(value: Mapping[str, Any]) -> Path:
        return out or Path("runs") / str(value.get("name"))

    _early_errors(recipe, overrides, folder)
    with Console(plain=plain) as console:
        from ..pipeline import run as running

        done = running(recipe, overrides or (), out=out, until=until, listeners=[console])
    from .tables import show_run

    show_run(done, until)
    if until in ("check", "report"):
        done.require_gates()


def _early_errors(
    recipe: str, overrides: Sequence[str] | None, resumed: Callable[[Mapping[str, Any]], Path] | None = None
) -> None:
    """Everything that is wrong with the recipe and what it names is said before torch is loaded."""
    from ..plan.before import checked

    checked(recipe, overrides or (), resumed=resumed)


def _folder_of(recipe: str, out: Path | None) -> Path | None:
    with contextlib.suppress(OSError):  # no name of a folder: what it is instead is told elsewhere
        if out is None and (Path(recipe) / "recipe.yaml").is_file():
            return Path(recipe)
    return out


def _run_folder(path: Path) -> Path:
    if not (path / "recipe.yaml").is_file():
        raise LuthierError(
            "this is no run folder: it has no recipe.yaml",
            where=str(path),
            expected="the folder of a run, such as runs/demo",
            remedy="luthier run RECIPE makes one",
        )
    return path


if __name__ == "__main__":
    main()
