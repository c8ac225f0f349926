"""`luthier data`: any step on a file of rows, and people's decisions about rows."""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ..core.errors import LuthierError

if TYPE_CHECKING:
    from ..core.example import Example

__all__ = ["data"]


class _Steps(TyperGroup):
    """Takes the name of a step for a command: `data clean FILE` is `data step clean FILE`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["step", *args]
        return super().resolve_command(ctx, args)


data = typer.Typer(
    cls=_Steps,
    help="Prepare rows: luthier data STEP FILE key=value puts them through a step (luthier list steps shows all).",
    no_args_is_help=True,
    epilog="luthier data deduplicate rows.jsonl threshold=0.9",
)

Rows = Annotated[str, typer.Argument(help="A file, a folder, embedded:NAME or a hub id.")]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="The rows' format; default: detected.", show_default=False)
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="key=COLUMN, where the file's columns have other names.", show_default=False),
]
HeaderOption = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether a table's first line names its columns; default: it must.",
        show_default=False,
    ),
]
Decisions = Annotated[Path, typer.Option("--decisions", help="The file of decisions.")]


@data.command()
def step(
    step: Annotated[str, typer.Argument(help="A step: clean, deduplicate, ...; luthier list steps shows all.")],
    rows: Rows,
    parameters: Annotated[
        list[str] | None,
        typer.Argument(help="The step's parameters: key=value, for example threshold=0.9", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where rows go, .jsonl or .parquet; default: FILE.STEP.jsonl.", show_default=False),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(help="Of a database, whose address ROWS then is: SELECT ... ORDER BY ...", show_default=False),
    ] = None,
    format_: FormatOption = None,
    column: Columns = None,
    header: HeaderOption = None,
    seed: int = 1,
) -> None:
    """Put a file of rows through one step; what it drops and changes stands in a ledger beside the result.

    Rows that cannot be read are counted and stand in the ledger too.
    """
    from ..core.files import remove_tree
    from ..core.recipe_file import apply_overrides
    from ..pipeline.data import is_large, ledger_file, prepare
    from .tables import show_prepared

    named = [f"data.{step}.{parameter}" for parameter in parameters or ()]
    given = apply_overrides({"data": {step: {}}}, named)["data"]
    target = out or Path(f"{_name(rows)}.{step}.jsonl")
    source = _source(rows, header) if query is None else {"path": rows, "query": query}
    reading = {"format": format_, "columns": _pairs(column), "bad_rows": "quarantine"}
    # Beside the result, so that the same command goes on where it was broken off.
    work = target.with_name(f"{target.name}.unfinished")
    found = prepare(source, [given], seed=seed, out=target, work=work if is_large(source) else None, **reading)
    show_prepared(found, target, ledger_file(target))
    remove_tree(work)


@data.command()
def show(
    rows: Rows,
    count: Annotated[int, typer.Option("--rows", min=0, help="Rows to show.")] = 3,
    limit: Annotated[int, typer.Option(min=1, help="Rows that the statistics are of.")] = 10_000,
    format_: FormatOption = None,
    column: Columns = None,
    header: HeaderOption = None,
) -> None:
    """Look at rows as a recipe would read them: the format and why, each column's statistics, the first rows."""
    from ..pipeline.data import shown
    from .rows import show_rows

    files = shown(rows, count, format=format_, columns=_pairs(column), header=header, limit=limit)
    show_rows(files)
    for file in files:
        if file.problem is not None:
            raise file.problem


@data.command()
def curve(
    rows: Rows,
    test: Annotated[
        str | None, typer.Option(help="Rows to measure on; default: a fifth of the rows.", show_default=False)
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="A model for the rows' vectors; none: hashed words.")
    ] = "embedded:minilm",
    sizes: Annotated[int, typer.Option(min=6, max=20, help="Numbers of rows that are learned.")] = 7,
    draws: Annotated[int, typer.Option(min=2, max=100, help="Times that rows are drawn anew.")] = 5,
    out: Annotated[
        Path | None, typer.Option("--out", help="The page; default: FILE.curve.html.", show_default=False)
    ] = None,
    format_: FormatOption = None,
    column: Columns = None,
    seed: int = 1,
) -> None:
    """What more rows would bring: accuracy by the number of labeled rows, and a power law that continues it."""
    from ..pipeline.curve import learning_curve
    from .tables import show_curve

    target = out or Path(f"{_name(rows)}.curve.html")
    found = learning_curve(
        rows,
        test,
        encoder=None if encoder == "none" else encoder,
        sizes=sizes,
        draws=draws,
        seed=seed,
        out=target,
        format=format_,
        columns=_pairs(column),
        bad_rows="quarantine",
    )
    show_curve(found, target)


@data.command()
def review(
    rows: Rows,
    decisions: Decisions = Path("decisions.jsonl"),
    reviewer: Annotated[
        str | None, typer.Option(help="Whose decisions these are; default: your name here.", show_default=False)
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(help="A ledger whose notes say which rows to look at first.", show_default=False),
    ] = None,
    adjudicate: Annotated[bool, typer.Option(help="Only rows on which reviewers disagree; your word settles.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="So many rows at most.", show_default=False)] = None,
    format_: FormatOption = None,
    column: Columns = None,
    header: HeaderOption = None,
    seed: int = 1,
) -> None:
    """Look at rows one by one and keep, drop, relabel or edit them; what is most worth a look comes first."""
    from ..data.review import queue, read_decisions
    from .review import ask

    examples = _read(rows, format_, column, header)
    earlier = read_decisions(decisions) if decisions.is_file() else []
    name = reviewer or getpass.getuser()
    notes = _notes(ledger)
    left = queue(examples, earlier, name, notes=notes, adjudicate=adjudicate, seed=seed)[:limit]
    ask(left, examples, decisions, name, notes, final=adjudicate)


@data.command()
def agreement(decisions: Annotated[Path, typer.Argument(help="The file of decisions.")]) -> None:
    """How far reviewers agree: Krippendorff's alpha, Fleiss' and Cohen's kappa, and the rows they disagree about."""
    from ..data.review import read_decisions
    from .review import show_agreement

    show_agreement(read_decisions(decisions))


@data.command()
def export(
    rows: Rows,
    to: Annotated[str, typer.Option("--to", help="argilla or label-studio")],
    out: Annotated[Path, typer.Option("--out", help="The JSON file to write.")],
    format_: FormatOption = None,
    column: Columns = None,
    header: HeaderOption = None,
) -> None:
    """Write rows for review in Argilla or Label Studio (with its labeling configuration beside the file)."""
    from ..core.files import write_atomic
    from ..data import annotation

    if to not in ("argilla", "label-studio"):
        raise LuthierError(f"there is no export to '{to}'", expected="--to argilla or --to label-studio")
    examples = _read(rows, format_, column, header)
    tool: annotation.Tool = "argilla" if to == "argilla" else "label-studio"
    write_atomic(out, json.dumps(annotation.export(examples, tool), indent=1, ensure_ascii=False) + "\n")
    typer.echo(f"{len(examples)} rows in {out}")
    if tool == "label-studio":
        config = out.with_suffix(".xml")
        write_atomic(config, annotation.labeling_config(examples))
        typer.echo(f"labeling configuration in {config}")


@data.command("import")
def import_(
    answers: Annotated[Path, typer.Argument(help="What Argilla or Label Studio exported, as JSON.")],
    decisions: Decisions = Path("decisions.jsonl"),
) -> None:
    """Read what reviewers answered in Argilla or Label Studio into the file of decisions."""
    from ..data.annotation import decisions_of
    from ..data.review import add_decision, read_decisions

    try:
        content = answers.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LuthierError(f"the file cannot be read: {error}", where=str(answers)) from error
    known = set(map(repr, read_decisions(decisions))) if decisions.is_file() else set()
    found = [decision for decision in decisions_of(content, str(answers)) if repr(decision) not in known]
    for decision in found:
        add_decision(decisions, decision)
    typer.echo(f"{len(found)} new decisions in {decisions}")


def _name(rows: str) -> str:
    """What files that are made of these rows are called."""
    return Path(rows.removeprefix("embedded:").removeprefix("env:")).name.partition(".")[0]


def _source(rows: str, header: bool | None) -> str | dict[str, Any]:
    return rows if header is None else {"path": rows, "header": header}


def _pairs(column: Sequence[str] | None) -> dict[str, str]:
    return {key: name for key, _, name in (pair.partition("=") for pair in column or ())}


def _read(rows: str, format_: str | None, column: Sequence[str] | None, header: bool | None) -> Sequence[Example]:
    from ..pipeline.data import prepare

    return prepare(_source(rows, header), format=format_, columns=_pairs(column), bad_rows="quarantine").splits["train"]


def _notes(ledger: Path | None) -> dict[str, list[str]]:
    """What steps noted, by row."""
    found: dict[str, list[str]] = {}
    if ledger is None:
        return found
    try:
        lines = ledger.read_text(encoding="utf-8").splitlines()
        entries: list[dict[str, Any]] = [json.loads(line) for line in lines if line.strip()]
        for entry in entries:
            if entry["action"] == "noted":
                found.setdefault(entry["id"], []).append(entry["reason"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LuthierError(
            f"the ledger cannot be read: {error}",
            where=str(ledger),
            expected="a ledger that `luthier data STEP` wrote (.ledger.jsonl)",
        ) from error
    return found
