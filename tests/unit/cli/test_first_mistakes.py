"""The mistakes that a newcomer makes first: each is answered with its place and its remedy, and no traceback."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import luthier
from luthier.cli.main import main

RECIPE = "name: tales\nmodel: {model}\ndata:\n  train: rows.jsonl\n"


@dataclass(frozen=True)
class Mistake:
    """A recipe and a command line, and what the answer must say: the place, what was found, the remedy."""

    name: str
    says: tuple[str, ...]
    overrides: tuple[str, ...] = ()
    recipe: str = RECIPE
    command: tuple[str, ...] = ("run", "tales.yaml")
    late: bool = field(default=False)
    """Known only once data or the model are loaded."""


MISTAKES = (
    Mistake(
        "misspelled key", ("tales.yaml:5", "'lisence'", "did you mean 'license'?"), recipe=RECIPE + "lisence: mit\n"
    ),
    Mistake(
        "key of a phase at the top", ("tales.yaml:5", "'epochs' belongs into phases"), recipe=RECIPE + "epochs: 2\n"
    ),
    Mistake("rate by another trainer's name", ("'learning_rate'", "optimizer.adamw.lr=1e-4"), ("learning_rate=1e-4",)),
    Mistake(
        "parameter by another trainer's name",
        ("optimizer.adamw.learning_rate", "optimizer.adamw.lr=1e-4"),
        ("optimizer.adamw.learning_rate=1e-4",),
    ),
    Mistake("batch by another trainer's name", ("'batch_size'", "per_step={rows: 16}"), ("batch_size=8",)),
    Mistake("misspelled component", ("phases.0.adaptation", "'lorra'", "did you mean 'lora'?"), ("adaptation=lorra",)),
    Mistake("misspelled parameter", ("adaptation.lora.ranc", "did you mean 'rank'?"), ("adaptation.lora.ranc=8",)),
    Mistake("wrong type", ("phases.0.epochs", '"two"', "a number"), ("epochs=two",)),
    Mistake("component without list", ("data.steps", "write [clean]"), ("data.steps=clean",)),
    Mistake("no data", ("data", "'data' is missing", "data.train=rows.jsonl"), recipe="name: t\nmodel: {model}\n"),
    Mistake(
        "no training data",
        ("data.train", "'train' is missing", "data.train=rows.jsonl"),
        recipe="name: t\nmodel: {model}\ndata: {{validation: 0.1}}\n",
    ),
    Mistake("absent data file", ("data.train", "'row.jsonl'", "did you mean 'rows.jsonl'?"), ("data.train=row.jsonl",)),
    Mistake(
        "absent recipe", ("'tale.yaml'", "a YAML file", "did you mean 'tales.yaml'?"), command=("run", "tale.yaml")
    ),
    Mistake("misspelled shipped recipe", ("'dmo'", "did you mean 'demo'?"), command=("run", "dmo")),
    Mistake("invalid YAML", ("tales.yaml:3", "not valid YAML", "brackets"), recipe="name: t\nmodel: [x\ndata: 3\n"),
    Mistake("tab", ("tales.yaml:4", "'\\t'", "indentation"), recipe="name: t\nmodel: x\ndata:\n\ttrain: rows.jsonl\n"),
    Mistake("key twice", ("tales.yaml", "stands twice, at lines 1 and 5"), recipe=RECIPE + "name: again\n"),
    Mistake("unknown override", ("dta", "did you mean 'data'?"), ("dta.train=rows.jsonl",)),
    Mistake(
        "override into nothing",
        ("checks.perplexity.limit=3", "not in the list"),
        ("checks=[parity]", "checks.perplexity.limit=3"),
    ),
    Mistake("override without =", ("'epochs'", "key.path=value"), ("epochs",)),
    Mistake("override with spaces", ("'epochs'", "without spaces"), ("epochs", "=", "2")),
    Mistake(
        "override torn at its spaces",
        ("'{lora:'", "put quotes around an override with spaces"),
        ("adaptation={peft:", "{lora:", "{rank: 8}}}"),
    ),
    Mistake(
        "misspelled phase as the teacher",
        ("phases.1.objective.distill.teacher", "did you mean 'large'?"),
        recipe=RECIPE + "phases: [{{name: large}}, {{name: small, objective: {{distill: {{teacher: lage}}}}}}]\n",
    ),
    Mistake(
        "misspelled phase as the reward model",
        ("phases.0.objective.grpo.rewards.0.model.source", "did you mean 'judge'?"),
        recipe=RECIPE + "phases: [{{name: judge, objective: {{grpo: {{rewards: [{{model: {{source: jugde}}}}]}}}}}}]\n",
    ),
    Mistake(
        "layers that the model has not",
        ("phases.1.keep_layers", "the model has 1 layers, 0 to 0", "names 9"),
        recipe=RECIPE + "phases: [{{name: one, keep_layers: [0]}}, {{name: two, keep_layers: [0, 9]}}]\n",
    ),
    Mistake("epochs and steps", ("phases.0", "not both", "epochs=null steps=20"), ("epochs=1", "steps=3")),
    Mistake(
        "one answer to a prompt",
        ("override objective", "phases.0.objective: one answer to a prompt", "at least 2 answers"),
        ("objective={grpo: {rewards: [{length: {words: 3}}], answers: 1}}",),
    ),
    Mistake(
        "no space after a colon",
        ("phases.0.objective.dpo.beta:0.1", "a space after a key's colon: beta: 0.1"),
        ("objective={dpo:{beta:0.1}}",),
    ),
    Mistake(
        "share out of range", ("tales.yaml:3: data", "validation 1.5", "between 0 and 1"), ("data.validation=1.5",)
    ),
    Mistake(
        "shares that leave nothing",
        ("tales.yaml:3: data", "validation 0.5 and test 0.6 are 1.1 together", "leave something to train on"),
        ("data.validation=0.5", "data.test=0.6"),
    ),
    Mistake("gate without check", ("gates.0", "add text_match to checks"), ("gates=[text_match.exact >= 0.5]",)),
    Mistake(
        "gate on a misspelled metric",
        ("gates.0", "'exat'", "did you mean 'text_match.exact'?"),
        ("gates=[text_match.exat >= 0.5]", "checks=[text_match]", "data.test=0.5"),
    ),
    Mistake("gate that cannot be read", ("gates.0", "text_match.exact >= base + 0.10"), ("gates=[it is good]",)),
    Mistake("check of another task", ("checks.0", "for classifiers", "perplexity"), ("checks=[classification]",)),
    Mistake("check twice", ("checks.1", "keep one of the two"), ("checks=[perplexity,perplexity]", "data.test=0.5")),
    Mistake("checks without rows", ("checks.0", "data.test=0.1"), ("checks=[perplexity]",)),
    Mistake("patience without validation", ("watch.patience", "data.validation"), ("watch.patience=2",)),
    Mistake("max_length beyond the model", ("phases.0.max_length", "at most 512"), ("max_length=4000",)),
    Mistake("unknown embedded model", ("model", "did you mean 'embedded:nano'?"), ("model=embedded:nanno",)),
    Mistake(
        "unknown embedded data", ("data.train", "did you mean 'embedded:general'?"), ("data.train=embedded:generl",)
    ),
    Mistake("folder without a model", ("model", "the folder holds no model", "config.json"), ("model=empty",)),
    Mistake("hub while offline", ("model", "org/name", "hf download org/name", "embedded:nano"), ("model=org/name",)),
    Mistake("phases of one name", ("tales.yaml:5: phases", "add name:"), recipe=RECIPE + "phases: [{{}}, {{}}]\n"),
    Mistake("absent template", ("chat_template", "'chat.jinja'", "leave it out"), ("chat_template=chat.jinja",)),
    Mistake(
        "absent general text",
        ("checks.0.forgetting.on", "'general.txt'"),
        ("checks=[{forgetting: {on: general.txt}}]",),
    ),
    Mistake("seeds twice", ("seed", "the seed 1 stands 2 times", "seed=[1, 2]"), ("seed=[1, 1, 2]",)),
    Mistake(
        "phase after bottlenecks",
        ("phases.0.adaptation", "cannot be folded in", "lora"),
        recipe=RECIPE + "phases: [{{name: one, adaptation: bottleneck}}, {{name: two}}]\n",
    ),
    Mistake(
        "teacher with bottlenecks",
        ("phases.0.adaptation", "asks 'one', whose bottlenecks cannot be folded in", "name that run"),
        recipe=RECIPE + "phases: [{{name: one, adaptation: bottleneck}}, "
        "{{name: two, from: {model}, objective: {{distill: {{teacher: one}}}}}}]\n",
    ),
    Mistake("talk with a shipped model", ("embedded:nano", "tune it"), command=("generate", "embedded:nano", "Hello")),
    Mistake("no run folder", ("rows", "no run folder", "luthier run RECIPE"), command=("export", "rows")),
    Mistake("chat without a model", ("rows", "the folder holds no model", "luthier export"), command=("chat", "rows")),
    Mistake("unknown room", ("'check'", "did you mean 'checks'?"), command=("list", "check")),
    Mistake(
        "label column missing",
        ("rows.jsonl", "'lable'", "did you mean 'label'?"),
        ("objective=classify", "data.train.columns.label=lable"),
        late=True,
    ),
    Mistake(
        "rows without labels",
        ("text.jsonl:1", "has no label", "columns: {label"),
        ("objective=classify", "data.train=text.jsonl"),
        late=True,
    ),
    Mistake("unknown columns", ("odd.csv", "columns", "q, a"), ("data.train=odd.csv",), late=True),
    Mistake(
        "split by a column that is not there",
        ("rows.jsonl", "'custmer'"),
        ("data.split_by=custmer", "data.test=0.5"),
        late=True,
    ),
    Mistake("bitfit without biases", ("has no biases", "use lora"), ("adaptation=bitfit",), late=True),
    Mistake("language modeling on an encoder", ("encoder", "embedded:nano", "classify"), ("model=bert",), late=True),
)


@pytest.fixture
def place(tmp_path: Path, llama_folder: Path, bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with rows, a CSV of unknown columns, an empty folder, and a link to a tiny encoder."""
    (tmp_path / "rows.jsonl").write_text(
        '{"text": "a small wolf", "label": "tale"}\n{"text": "new strings", "label": "shop"}\n', encoding="utf-8"
    )
    (tmp_path / "text.jsonl").write_text('{"text": "a wolf"}\n{"text": "a moon"}\n', encoding="utf-8")
    (tmp_path / "odd.csv").write_text("q,a\none,two\n", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows").mkdir()
    (tmp_path / "bert").symlink_to(bert_folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def answer(mistake: Mistake, model: Path, capsys: pytest.CaptureFixture[str]) -> str:
    Path("tales.yaml").write_text(mistake.recipe.format(model=model), encoding="utf-8")
    with pytest.raises(SystemExit) as end:
        main([*mistake.command, *mistake.overrides])
    assert end.value.code == 2
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err + shown.out
    return shown.err


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_answered_with_place_and_remedy(
    mistake: Mistake, place: Path, llama_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = answer(mistake, llama_folder, capsys)
    for words in mistake.says:
        assert words in said
    assert "error:" in said
    assert "remedy:" in said or "expected:" in said or "twice" in said or "not both" in said or "between" in said


@pytest.mark.parametrize(
    ("option", "said"),
    [("--epochs", "write epochs=VALUE"), ("--max-length", "write max_length=VALUE"), ("--resume", None)],
)
def test_a_key_given_as_an_option_is_told_how_it_is_written(
    option: str, said: str | None, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["run", "tales.yaml", option, "3"])
    assert end.value.code == 2
    shown = capsys.readouterr().err
    assert f"No such option: {option}" in shown
    assert said in shown if said else "VALUE" not in shown


def test_other_trainers_keys_are_translated_to_what_a_recipe_takes(llama_folder: Path) -> None:
    """Every `key=value` that a remedy offers fits a recipe."""
    from luthier.core.problems import _ELSEWHERE
    from luthier.core.recipe_file import load_recipe

    plain = {"name": "t", "model": str(llama_folder), "data": {"train": "rows.jsonl"}}
    for key, there in _ELSEWHERE.items():
        for offered in re.findall(r"[a-z_.]+=(?:\{[^}]*\}|[\w-]+)", there):
            assert load_recipe(plain, [offered]), (key, offered)


def test_a_run_folder_given_to_run_goes_on_in_that_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in runs/NAME, where it would train everything anew."""
    seen: list[Path | None] = []
    monkeypatch.setattr("luthier.cli.main._run", lambda recipe, overrides, out, until, plain: seen.append(out))
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "recipe.yaml").write_text("name: tales\n", encoding="utf-8")
    main(["run", "elsewhere"])
    main(["run", "elsewhere", "--out", "other"])
    main(["run", "tales.yaml"])
    assert seen == [Path("elsewhere"), Path("other"), None]


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out == f"luthier {luthier.__version__}\n"


def test_all_problems_come_at_once(place: Path, llama_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mistake = Mistake(
        "many", (), ("data.train=row.jsonl", "model=embedded:nanno", "epochs=two", "checks=[perplexty]", "max_length=1")
    )
    said = answer(mistake, llama_folder, capsys)
    assert said.startswith("5 problems")
    for place_ in ("data.train", "model", "phases.0.epochs", "checks.0", "phases.0.max_length"):
        assert place_ in said


def test_what_is_known_before_loading_comes_without_torch(place: Path, llama_folder: Path) -> None:
    early = [mistake for mistake in MISTAKES if not mistake.late]
    lines = ["import sys", "from pathlib import Path", "from luthier.cli.main import main"]
    for mistake in early:
        text = mistake.recipe.format(model=llama_folder)
        lines += [
            f"Path('tales.yaml').write_text({text!r})",
            "try:",
            f"    main({[*mistake.command, *mistake.overrides]!r})",
            "except SystemExit as end:",
            f"    assert end.code == 2, {mistake.name!r}",
            f"assert 'torch' not in sys.modules, {mistake.name!r}",
            f"assert 'transformers' not in sys.modules, {mistake.name!r}",
        ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-600:]
