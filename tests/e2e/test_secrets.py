"""Planted names and tokens are looked for in everything that runs write and print, successful and failing ones.

docs/run-folder.md says which documents hold texts of rows and paths of the machine; its table is what is tested. The
tokens are invented and put together from pieces, so that no scanner takes them for real ones.
"""

from __future__ import annotations

import errno
import fnmatch
import json
import os
import re
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_runs import chat_records, class_recipe, label_records, lm_recipe, write_jsonl

from luthier.cli.main import main
from luthier.core.redact import HIDDEN

ROWS = ("Zaphodia", "Canarywell", "zaph@canary.example", "5550199")
"""What stands in rows: a name, an address, a number."""

LETTERS = "AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh"
TOKENS = {
    "HF_TOKEN": "hf_" + LETTERS,
    "WANDB_API_KEY": "0c4na7y0" * 5,
    "HTTPS_PROXY": "proxy-canary-word",
    "url": "login-canary-word",
    "signature": "5160a7u7e" * 4,
}
SIGNED = f"https://cdn.example.org/blob?X-Amz-Date=1&X-Amz-Signature={TOKENS['signature']}&x=1"
DOCS = Path(__file__).parents[2] / "docs" / "run-folder.md"
TABLE = re.compile(r"^\| `([^`]+)` \| (yes|no) \| (yes|no) \|$", re.MULTILINE)


@pytest.fixture(autouse=True)
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a telling name, to be looked for as well, and tokens in the environment."""
    for name in ("HF_TOKEN", "WANDB_API_KEY"):
        monkeypatch.setenv(name, TOKENS[name])
    monkeypatch.setenv("HTTPS_PROXY", f"http://jane:{TOKENS['HTTPS_PROXY']}@localhost:9")
    folder = tmp_path / "canaryplace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def told(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records, with what nobody else may read in every row."""
    text = json.dumps(records).replace("the violin", "the violin of Zaphodia Canarywell")
    records = json.loads(text)
    for record in records:
        if "text" in record:
            record["text"] += " says zaph@canary.example, +49 170 5550199"
        else:
            record["messages"][0]["content"] += " Ask Zaphodia Canarywell, zaph@canary.example or +49 170 5550199."
            record["messages"][1]["content"] += " Yes, Zaphodia."
    return records


def written(path: Path, recipe: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def said(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """A command's exit code and all it printed; no token is in it, and no text of a row."""
    code = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    printed = "".join(capfd.readouterr())
    assert [token for token in TOKENS.values() if token in printed] == []
    assert [row for row in ROWS if row in printed] == []
    return code, printed


def content(file: Path) -> str:
    if file.suffix == ".parquet":
        import pyarrow.parquet as pq

        return json.dumps(pq.read_table(file).to_pylist(), ensure_ascii=False, default=str)
    return file.read_bytes().decode("utf-8", "replace")


def rules() -> list[tuple[str, bool, bool]]:
    """The table of docs/run-folder.md: pattern, whether rows' texts may stand there, whether paths may."""
    found = [(pattern, rows == "yes", places == "yes") for pattern, rows, places in TABLE.findall(DOCS.read_text())]
    assert len(found) > 15
    return found


def wrong(folder: Path) -> list[str]:
    """What stands where the table does not allow it, in all files of a run's folder."""
    problems = []
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        name = file.relative_to(folder).as_posix()
        rule = next((rule for rule in rules() if fnmatch.fnmatchcase(name, rule[0].replace("**", "*"))), None)
        if rule is None:
            problems.append(f"{name} is in no line of the table")
            continue
        text = content(file)
        problems += [f"{name} holds the token {kind}" for kind, token in TOKENS.items() if token in text]
        problems += [f"{name} holds {row}" for row in ROWS if row in text and not rule[1]]
        if "canaryplace" in text and not rule[2]:
            problems.append(f"{name} holds a path")
    return problems


def shown(folder: Path) -> dict[str, tuple[bool, bool]]:
    """For each line of the table that a run fills: whether rows' texts, and paths, stand in its files."""
    found: dict[str, tuple[bool, bool]] = {}
    for file in (file for file in folder.rglob("*") if file.is_file()):
        name = file.relative_to(folder).as_posix()
        pattern = next(rule[0] for rule in rules() if fnmatch.fnmatchcase(name, rule[0].replace("**", "*")))
        before, text = found.get(pattern, (False, False)), content(file)
        found[pattern] = (before[0] or any(row in text for row in ROWS), before[1] or "canaryplace" in text)
    return found


# ---- runs that end well ----------------------------------------------------------------------------------------------


def test_a_run_tells_of_its_rows_only_where_the_table_says_so(
    planted: Path, llama_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    records = told(chat_records(40))
    records.append(dict(records[3]))  # dropped as a duplicate: the ledger keeps it whole
    longer = {"role": "Zaphodia Canarywell, who lives next door", "content": "x"}
    records.append({"messages": [longer, *records[0]["messages"]]})
    data = write_jsonl(planted / "rows.jsonl", records)
    with data.open("a") as file:
        file.write('{"messages": "Zaphodia Canarywell\n')
    model = planted / "llama"
    model.symlink_to(llama_folder)
    recipe = lm_recipe(
        model,
        data,
        steps=2,
        checks=[{"text_match": {"limit": 4}}, {"perplexity": {"limit": 4}}],
        gates=["text_match.exact >= 2"],
        trackers=["tensorboard"],
    )
    recipe["data"] |= {"steps": ["deduplicate"], "bad_rows": "quarantine"}
    recipe["phases"].append(
        {**recipe["phases"][0], "name": "more", "data": {"train": str(data), "bad_rows": "quarantine"}}
    )
    out = planted / "out"
    code, printed = said(capfd, "run", written(planted / "r.yaml", recipe), "--out", out, "--plain")
    assert code == 3, printed
    assert f"{data}:42" in printed or "rows.jsonl:4" in printed
    assert wrong(out) == []
    found = shown(out)
    # What the table allows is really there: a line that says yes for nothing would hide a leak to come.
    allowed = {pattern: (rows, places) for pattern, rows, places in rules()}
    assert {p: seen for p, seen in found.items() if seen != allowed[p]} == {}
    assert set(allowed) - set(found) <= {
        "given.jsonl",
        "data/unfinished/**",
        "phases/*/reference-*.safetensors",
        "phases/*/rollouts.jsonl",  # of what learns from its own answers: below
        "phases/*/ledger.parquet",  # of self-training alone: tests/e2e/test_semi_supervised.py looks into it
    }
    card = (out / "README.md").read_text()
    assert "rows.jsonl" in card
    assert "Fine-tuned from `llama`" in card
    assert said(capfd, "train", out)[0] == 0  # what is kept says nothing else
    assert wrong(out) == []
    assert said(capfd, "doctor")[0] == 0


# It fails for every second answer: where it fails for each of the first rollout, the run stops.
JUDGE = """
calls = []

def judge(prompt, answer, target):
    calls.append(prompt)
    if len(calls) % 2:
        raise ValueError(prompt)
    return 1.0
"""


def test_what_a_policy_was_asked_stands_beside_its_phase_and_in_no_log(
    planted: Path, llama_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor does what a reward says that fails, which quotes what it was given."""
    (planted / "judges.py").write_text(JUDGE)
    data = write_jsonl(planted / "rows.jsonl", told(chat_records(30)))
    grpo = {"rewards": [{"function": {"path": "judges:judge"}}], "answers": 2, "max_new_tokens": 4}
    recipe = lm_recipe(llama_folder, data, objective={"grpo": grpo}, steps=1, per_step={"rows": 2})
    out = planted / "out"
    code, printed = said(capfd, "run", written(planted / "r.yaml", recipe), "--out", out, "--plain")
    assert code == 0, printed
    assert "function: ValueError; what it said stands in" in printed
    assert wrong(out) == []
    assert shown(out)["phases/*/rollouts.jsonl"] == (True, False)


def test_a_classifier_tells_its_classes_and_no_rows(
    planted: Path, bert_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write_jsonl(planted / "rows.jsonl", told(label_records(30)))
    recipe = class_recipe(bert_folder, data, steps=1, checks=["classification"])
    out = planted / "out"
    code, printed = said(capfd, "run", written(planted / "r.yaml", recipe), "--out", out, "--plain")
    assert code == 0, printed
    assert wrong(out) == []
    assert "good" in (out / "model" / "config.json").read_text()


# ---- runs that fail --------------------------------------------------------------------------------------------------


def failing(
    planted: Path, model: Path, capfd: pytest.CaptureFixture[str], lines: Sequence[str] = (), **changes: Any
) -> str:
    """What a run that cannot end well prints; its folder holds nothing that the table does not allow."""
    data = planted / "rows.jsonl"
    write_jsonl(data, told(chat_records(24)))
    with data.open("a") as file:
        file.writelines(f"{line}\n" for line in lines)
    recipe = lm_recipe(model, data, **{"steps": 3} | changes)
    code, printed = said(capfd, "run", written(planted / "r.yaml", recipe), "--out", planted / "out", "--plain")
    assert code != 0
    assert (planted / "out").exists() <= (wrong(planted / "out") == [])
    return printed


BROKEN = (
    '{"messages": [{"role": "user", "content": "Zaphodia Canarywell"',
    '{"text": "Zaphodia Canarywell"}',
    '{"messages": [{"role": "Zaphodia Canarywell of 5550199", "content": "x"}]}',
    '{"messages": [{"role": "user", "content": [{"type": "the secret of Zaphodia Canarywell"}]}]}',
    '{"messages": [{"role": "user", "content": "Zaphodia"}, {"role": "assistant", "content": {"Canarywell": 1}}]}',
    '{"messages": [{"role": "assistant", "content": "Zaphodia"}]}',
)


@pytest.mark.parametrize("line", BROKEN)
def test_a_bad_row_is_told_by_its_line(
    planted: Path, llama_folder: Path, capfd: pytest.CaptureFixture[str], line: str
) -> None:
    assert "rows.jsonl:25" in failing(planted, llama_folder, capfd, [line])


def test_a_diverged_training_names_ids(planted: Path, llama_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    printed = failing(planted, llama_folder, capfd, optimizer={"adamw": {"lr": 1e37}}, clip=None)
    assert "rows 'rows:" in printed


def test_a_full_disk_tells_no_rows(
    planted: Path, llama_folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.replace

    def full(source: Any, target: Any) -> None:
        if "train.parquet" in str(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert "disk is full" in failing(planted, llama_folder, capfd)


def test_a_row_that_the_template_refuses_is_told_by_its_line(
    planted: Path, llama_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    template = planted / "t.jinja"
    template.write_text(
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] }}"
        "{{ '<|im_end|>' if m['content'] | length < 9 or m['role'] == 'user' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    assert "stop token" in failing(planted, llama_folder, capfd, chat_template=str(template))


def test_an_unknown_class_is_told_by_its_name_and_line(
    planted: Path, bert_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write_jsonl(planted / "rows.jsonl", told(label_records(30)))
    other = [{"text": "Zaphodia Canarywell is moody", "label": "moody"}]
    held = write_jsonl(planted / "held.jsonl", [*other, {"text": "x", "label": "a long tale, as of " + "Zaphodia" * 9}])
    recipe = class_recipe(bert_folder, data, steps=1)
    recipe["data"]["validation"] = str(held)
    code = 0
    try:
        main(["run", str(written(planted / "r.yaml", recipe)), "--out", str(planted / "out"), "--plain"])
    except SystemExit as end:
        code = int(end.code or 0)
    printed = "".join(capfd.readouterr())
    assert code == 2
    assert "'moody'" in printed
    assert "held.jsonl:1" in printed
    assert "Canarywell" not in printed
    assert "ZaphodiaZaphodia" not in printed  # what is too long for a class is cut
    assert wrong(planted / "out") == []


# ---- tokens in what is given -----------------------------------------------------------------------------------------

GIVEN = {
    "model URL": (f"model=https://jane:{TOKENS['url']}@example.org/model",),
    "hub id with a token": (f"model=org/name@{TOKENS['HF_TOKEN']}",),
    "data URL": (f"data.train=https://{TOKENS['HF_TOKEN']}@example.org/rows.jsonl",),
    "signed data URL": (f"data.train={SIGNED}",),
    "unknown key": (f"model.token={TOKENS['HF_TOKEN']}",),
    "a token as a key": (f"{TOKENS['HF_TOKEN']}=1",),
    "a number that is none": (f"epochs={TOKENS['WANDB_API_KEY']}",),
    "no override": (TOKENS["HF_TOKEN"],),
    "a component": (f"adaptation={TOKENS['HF_TOKEN']}",),
    "a gate": (f"gates=['{TOKENS['HF_TOKEN']} > 1']",),
}


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("name", GIVEN)
def test_a_token_on_the_command_line_is_not_said_again(
    planted: Path, llama_folder: Path, capfd: pytest.CaptureFixture[str], name: str, command: str
) -> None:
    data = write_jsonl(planted / "rows.jsonl", chat_records(8))
    recipe = written(planted / "r.yaml", lm_recipe(llama_folder, data))
    code, printed = said(capfd, command, recipe, *GIVEN[name])
    assert code == 2, printed
    assert HIDDEN in printed
    assert not list(planted.glob("runs/*/*"))


def test_a_recipe_file_with_a_token_is_refused_at_its_line(
    planted: Path, llama_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = write_jsonl(planted / "rows.jsonl", chat_records(8))
    recipe = lm_recipe(llama_folder, data) | {"about": f"made with {TOKENS['HF_TOKEN']}"}
    code, printed = said(capfd, "run", written(planted / "r.yaml", recipe))
    assert code == 2
    assert "r.yaml:1: about" in printed
    assert "hf auth login" in printed
    assert not (planted / "runs").exists()


# ---- what other libraries say ----------------------------------------------------------------------------------------

LOUD = f"401 for {SIGNED} with Bearer {TOKENS['HF_TOKEN']} through {TOKENS['HTTPS_PROXY']} as {TOKENS['WANDB_API_KEY']}"


def test_the_hub_s_words_are_not_passed_on(
    planted: Path, llama_folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any, **named: Any) -> None:
        raise OSError(LOUD)

    data = write_jsonl(planted / "rows.jsonl", chat_records(8))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    recipe = written(planted / "r.yaml", lm_recipe("org/name", data))  # type: ignore[arg-type]
    code, printed = said(capfd, "run", recipe, "--plain", "--out", planted / "out")
    assert code == 2, printed
    assert wrong(planted / "out") == []
    hub = types.ModuleType("datasets")
    hub.__spec__ = sys.modules["json"].__spec__
    hub.load_dataset = refuse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", hub)
    recipe = written(planted / "r.yaml", lm_recipe(llama_folder, "org/rows"))  # type: ignore[arg-type]
    code, printed = said(capfd, "run", recipe, "--plain", "--out", planted / "out")
    assert code == 2
    assert f"X-Amz-Signature={HIDDEN}" in printed
    assert wrong(planted / "out") == []


def test_a_traceback_that_nobody_foresaw_shows_no_token(
    planted: Path, llama_folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fall(*given: Any) -> None:
        raise KeyError(LOUD)

    data = write_jsonl(planted / "rows.jsonl", told(chat_records(8)))
    monkeypatch.setattr("luthier.pipeline.stages.describe", fall)
    recipe = written(planted / "r.yaml", lm_recipe(llama_folder, data))
    code, printed = said(capfd, "run", recipe, "--plain", "--out", planted / "out")
    assert code == 1
    assert "Traceback" in printed
    assert f"Bearer {HIDDEN}" in printed
    assert wrong(planted / "out") == []


def test_the_doctor_shows_no_token(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fall() -> None:
        raise RuntimeError(LOUD)

    monkeypatch.setattr("luthier.plan.doctor._device", fall)
    code, printed = said(capfd, "doctor")
    assert code == 0
    assert "cannot be examined" in printed
