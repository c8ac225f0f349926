"""One tiny recipe a task, from the data file to the report, and the commands on what they leave."""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from small_runs import FEELINGS, chat_records, class_recipe, label_records, lm_recipe, text_records, write_jsonl

import luthier
from luthier.cli.main import main
from luthier.core.errors import GateFailed, LuthierError
from luthier.core.files import sha256_of
from luthier.core.run import read_events
from luthier.data.prepare import load
from luthier.evaluate.compare import compare
from luthier.pipeline.end_to_end import Run

RAW = re.compile(r"NaN|\bnan\b|\bNone\b|\{%|\{\{|,  |: \.|\binf\b")


def assert_sound(run: Run) -> None:
    """A report, a card and evidence without anything raw; a model; digests that hold."""
    for name in ("report.html", "README.md"):
        visible = (run.folder / name).read_text(encoding="utf-8").split("</style>")[-1]
        assert not RAW.findall(visible), (name, RAW.findall(visible))
    json.loads((run.folder / "evidence.json").read_text(), parse_constant=lambda text: pytest.fail(f"raw {text}"))
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert manifest["outputs"]
    for name, digest in manifest["outputs"].items():
        assert sha256_of(run.folder / name) == digest, name


def stages(folder: Path) -> dict[str, str]:
    return {e["stage"]: e["state"] for e in read_events(folder / "events.jsonl") if e["event"] == "stage"}


def command(*arguments: str | Path) -> int:
    """The exit code of a command."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_plain_text_trains_in_full(llama_folder: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "text.jsonl", text_records())
    run = luthier.run(
        lm_recipe(llama_folder, data, adaptation="full", checks=["perplexity", {"parity": {"rows": 3}}]),
        out=tmp_path / "run",
    )
    assert run.value("perplexity.perplexity") < 0.8 * run.value("perplexity.perplexity", "base")
    assert run.value("parity.max_difference", "reloaded") <= 1e-5
    assert_sound(run)


def test_classes_are_learned_in_full_and_better_than_the_base(
    bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_jsonl(tmp_path / "labels.jsonl", label_records(90))
    run = luthier.run(
        class_recipe(bert_folder, data, checks=["classification", "parity"], epochs=10, dropout=0.0),
        out=tmp_path / "run",
    )
    change = next(f for f in run.findings if (f.metric, f.subject) == ("accuracy", "change"))
    assert change.value > 0.3
    assert change.low is not None
    assert change.low > 0
    evidence = json.loads((run.folder / "evidence.json").read_text())
    assert evidence["confusion"]["tuned"]["classes"] == sorted(FEELINGS)
    assert_sound(run)
    capsys.readouterr()
    assert command("generate", run.folder, "item 4 is odd indeed") == 0
    named = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert named[0][1] == "odd", "a classifier names its classes, the most probable one first"
    assert {name for _, name in named} == set(FEELINGS)
    assert sum(float(chance.rstrip("%")) for chance, _ in named) == pytest.approx(100, abs=0.1)
    assert command("chat", run.folder) == 2
    assert "luthier generate" in capsys.readouterr().err


def test_several_labels_at_once(bert_folder: Path, tmp_path: Path) -> None:
    pairs = [(FEELINGS[i % 3], FEELINGS[(i + 1) % 3]) if i % 2 else (FEELINGS[i % 3],) for i in range(60)]
    rows = [{"text": f"item {i} is {' and '.join(names)}", "labels": list(names)} for i, names in enumerate(pairs)]
    data = write_jsonl(tmp_path / "labels.jsonl", rows)
    run = luthier.run(
        class_recipe(bert_folder, data, checks=["classification", "parity"], epochs=6), out=tmp_path / "run"
    )
    config = json.loads((run.model / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert run.value("parity.max_difference", "reloaded") <= 1e-5
    assert any(math.isnan(finding.value) for finding in run.findings), "a class that is never predicted"
    assert_sound(run)


@pytest.fixture(scope="module")
def two(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Run]:
    """Three phases: plain text of its own, chat from it, and chat again from the first."""
    place = tmp_path_factory.mktemp("two")
    chat = write_jsonl(place / "chat.jsonl", chat_records())
    text = write_jsonl(place / "text.jsonl", text_records())
    recipe = lm_recipe(llama_folder, chat, checks=["perplexity", {"parity": {"rows": 3}}])
    first = recipe["phases"][0] | {"name": "domain", "data": {"train": str(text), "validation": 0.2}}
    second = recipe["phases"][0] | {"name": "again", "from": "domain", "adaptation": "full", "epochs": 1}
    recipe["phases"] = [first, recipe["phases"][0], second]
    return recipe, luthier.run(recipe, out=place / "run")


def test_a_phases_data_that_is_gone_is_prepared_again(two: tuple[dict[str, Any], Run]) -> None:
    recipe, run = two
    gone = run.folder / "phases" / "1-domain" / "data" / "train.parquet"
    before = sha256_of(gone)
    gone.unlink()
    luthier.run(recipe, out=run.folder)
    assert sha256_of(gone) == before


def test_phases_follow_each_other_and_bring_their_own_data(two: tuple[dict[str, Any], Run]) -> None:
    _, run = two
    phases = run.folder / "phases"
    assert sorted(path.name for path in phases.iterdir()) == ["1-domain", "2-sft", "3-again"]
    assert (phases / "1-domain" / "data" / "train.parquet").exists()
    assert not (phases / "2-sft" / "data").exists()
    assert run.value("parity.max_difference", "reloaded") <= 1e-5
    training = json.loads((run.folder / "manifest.json").read_text())["training"]
    assert list(training) == ["domain", "sft", "again"]
    assert training["domain"]["rows"] == len(load(phases / "1-domain" / "data").splits["train"])
    assert_sound(run)


def test_a_phase_named_by_from_is_where_it_starts(two: tuple[dict[str, Any], Run], tmp_path: Path) -> None:
    """Leaving out the phase between changes nothing of what the last one learns."""
    recipe, run = two
    shorter = recipe | {"phases": [recipe["phases"][0], recipe["phases"][2]]}
    twin = luthier.run(shorter, out=tmp_path / "run", until="export")
    ours, theirs = (load_file(one.model / "model.safetensors") for one in (run, twin))
    assert all(bool((ours[name] == value).all()) for name, value in theirs.items())


def test_a_change_in_the_second_phase_keeps_the_first(two: tuple[dict[str, Any], Run]) -> None:
    recipe, run = two
    luthier.run(recipe, ["phases.sft.optimizer.adamw.lr=1e-3"], out=run.folder)
    done = stages(run.folder)
    assert done["train domain"] == "kept"
    assert done["train sft"] == done["train again"] == "done"


def test_seeds_are_repeated_and_their_spread_reported(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_jsonl(tmp_path / "chat.jsonl", chat_records())
    recipe = lm_recipe(llama_folder, data, checks=["perplexity"], seed=[1, 2], gates=["perplexity.perplexity < base"])
    run = luthier.run(recipe, out=tmp_path / "run")
    single = [Run.of(tmp_path / "run" / "seeds" / f"seed-{seed}").value("perplexity.perplexity") for seed in (1, 2)]
    assert single[0] != single[1]
    tuned = next(f for f in run.findings if f.metric == "perplexity" and f.subject == "tuned")
    assert tuned.value == pytest.approx(sum(single) / 2)
    assert tuned.low is not None
    assert tuned.low < min(single) < max(single) < tuned.high
    assert run.passed
    assert_sound(run)
    luthier.run(recipe, out=tmp_path / "run")
    for seed in (1, 2):
        assert set(stages(tmp_path / "run" / "seeds" / f"seed-{seed}").values()) == {"kept"}
    assert command("generate", tmp_path / "run", "Hello?") == 2
    assert str(tmp_path / "run" / "seeds" / "seed-1") in capsys.readouterr().err.replace("\n", "")
    assert command("generate", tmp_path / "nowhere", "Hello?") == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_rows_that_cannot_be_read_are_set_aside_or_stop_the_run(llama_folder: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "chat.jsonl", chat_records())
    lines = data.read_text().splitlines()
    data.write_text("\n".join([*lines[:5], lines[5][:30], *lines[5:9], '{"messages": []}', *lines[9:]]) + "\n")
    recipe = lm_recipe(llama_folder, data, checks=["perplexity"], steps=2)
    with pytest.raises(LuthierError, match="2 rows cannot be read"):
        luthier.run(recipe, out=tmp_path / "stop")
    run = luthier.run(recipe, ["data.bad_rows=quarantine"], out=tmp_path / "run")
    summary = json.loads((run.folder / "data" / "summary.json").read_text())
    assert summary["unread"] == 2
    assert summary["read"] == 48
    assert any("2 rows could not be read" in e.get("text", "") for e in read_events(run.folder / "events.jsonl"))
    assert_sound(run)


def test_rows_that_encoding_leaves_out_are_told(llama_folder: Path, tmp_path: Path) -> None:
    """Rows too long for their answer are warned of in training and in validation, and counted in the manifest."""
    records = chat_records()
    for record in records[::4]:
        record["messages"][1]["content"] *= 40
    data = write_jsonl(tmp_path / "chat.jsonl", records)
    run = luthier.run(lm_recipe(llama_folder, data, steps=2, checks=["perplexity"]), out=tmp_path / "run")
    told = [e["text"] for e in read_events(run.folder / "events.jsonl") if e["event"] == "warning"]
    training = json.loads((run.folder / "manifest.json").read_text())["training"]["sft"]
    assert training["dropped"] > 0
    assert training["untrained"] == 0
    for what in ("training", "validation"):
        assert any(f"of the {what} data" in text and "does not fit into max_length" in text for text in told)
    assert any(re.fullmatch(r"the check perplexity: \d+ rows left out to fit 96 tokens", text) for text in told)


def test_the_manifest_names_this_runs_model_and_inputs(llama_folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(llama_folder, tmp_path / "model")
    (source / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    for name in ("one", "two"):
        data = write_jsonl(tmp_path / f"{name}.jsonl", chat_records())
        run = luthier.run(lm_recipe(source, data, steps=2), out=tmp_path / "run")
        manifest = json.loads((run.folder / "manifest.json").read_text())
        assert list(manifest["inputs"]) == [str(data)]
    assert manifest["model"]["source"] == str(source)
    assert manifest["model"]["license"] == "apache-2.0"
    assert "license: apache-2.0" in (run.folder / "README.md").read_text()
    assert_sound(run)


def test_fit_on_records_in_python(llama_folder: Path, tmp_path: Path) -> None:
    run = luthier.fit(
        str(llama_folder),
        chat_records(),
        test=0.2,
        checks=["perplexity"],
        adaptation={"lora": {"rank": 4}},
        steps=6,
        per_step={"rows": 8},
        max_length=96,
        prepare=["deduplicate"],
        out=tmp_path / "run",
    )
    assert run.value("perplexity.perplexity") > 0
    assert (run.model / "model.safetensors").exists()
    steps = [event for event in read_events(run.folder / "events.jsonl") if event["event"] == "step"]
    assert steps[-1]["step"] == 6
    assert_sound(run)


@pytest.fixture(scope="module")
def pair(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("pair")
    data = write_jsonl(place / "chat.jsonl", chat_records())
    recipe = lm_recipe(llama_folder, data, checks=[{"text_match": {"limit": 4}}, "perplexity"])
    first = luthier.run(recipe, out=place / "first")
    second = luthier.run(recipe, ["epochs=6"], out=place / "second")
    return first.folder, second.folder


def test_two_runs_are_compared_on_the_same_items(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("compare", *pair) == 0
    assert "perplexity" in capsys.readouterr().out
    change = next(f for f in compare(*pair) if f.metric == "perplexity" and f.subject == "change")
    values = [Run.of(folder).value("perplexity.perplexity") for folder in pair]
    assert change.value == pytest.approx(values[1] - values[0])
    assert change.p is not None


def test_chat_in_a_pipe_holds_answers_alone(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Number 2: the cello?\nNumber 3: the bow?\n"))
    assert command("chat", pair[0], "--max-new-tokens", "5") == 0
    shown = capsys.readouterr().out
    assert "you>" not in shown
    assert "model>" not in shown
    assert len(shown.splitlines()) == 2


def test_generate_answers_and_export_keeps(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = pair
    assert command("generate", first, "Number 2: the cello?", "--max-new-tokens", "5") == 0
    once = capsys.readouterr().out
    assert command("generate", first, "Number 2: the cello?", "--max-new-tokens", "5") == 0
    assert capsys.readouterr().out == once
    assert command("generate", first, " ") == 2
    assert "the prompt is empty" in capsys.readouterr().err
    assert command("export", first, "--plain") == 0
    assert stages(first)["export"] == "kept"


def test_check_again_with_an_override_measures_anew(pair: tuple[Path, Path]) -> None:
    _, second = pair
    assert command("check", second, "checks.text_match.limit=3", "--plain") == 0
    done = stages(second)
    assert done["check"] == "done"
    assert done["train sft"] == "kept"
    assert next(f.n for f in Run.of(second).findings if f.check == "text_match") == 3


def test_a_gate_that_fails_gives_3_after_the_whole_run(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_jsonl(tmp_path / "chat.jsonl", chat_records())
    recipe = lm_recipe(
        llama_folder,
        data,
        checks=["perplexity"],
        steps=2,
        gates=["perplexity.perplexity < 1", "perplexity.perplexity > 1"],
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert command("run", tmp_path / "recipe.yaml", "--out", tmp_path / "run", "--plain") == 3
    assert "perplexity.perplexity < 1" in "".join(capsys.readouterr())
    run = Run.of(tmp_path / "run")
    assert [verdict.holds for verdict in run.gates] == [False, True]
    assert not run.passed
    assert_sound(run)
    with pytest.raises(GateFailed):
        luthier.run(recipe, out=tmp_path / "run", raise_on_gates=True)


def test_another_models_weights_redo_training(llama_folder: Path, tmp_path: Path) -> None:
    """A run that starts from another run notices that the other was trained anew."""
    data = write_jsonl(tmp_path / "chat.jsonl", chat_records())
    first = lm_recipe(llama_folder, data, steps=2)
    second = lm_recipe(tmp_path / "first", data, steps=2)
    luthier.run(first, out=tmp_path / "first")
    luthier.run(second, out=tmp_path / "second")
    before = sha256_of(tmp_path / "second" / "model" / "model.safetensors")
    luthier.run(second, out=tmp_path / "second")
    assert set(stages(tmp_path / "second").values()) == {"kept"}
    luthier.run(first, ["steps=3"], out=tmp_path / "first")
    luthier.run(second, out=tmp_path / "second")
    done = stages(tmp_path / "second")
    assert done["prepare"] == "kept"
    assert done["train sft"] == "done"
    assert sha256_of(tmp_path / "second" / "model" / "model.safetensors") != before


def test_a_changed_text_of_forgetting_is_measured_anew(llama_folder: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "chat.jsonl", chat_records())
    general = write_jsonl(tmp_path / "general.jsonl", text_records(8))
    recipe = lm_recipe(llama_folder, data, steps=2, checks=[{"forgetting": {"on": str(general)}}])
    once = luthier.run(recipe, out=tmp_path / "run").value("forgetting.perplexity")
    write_jsonl(general, text_records(6))
    again = luthier.run(recipe, out=tmp_path / "run")
    assert stages(tmp_path / "run")["train sft"] == "kept"
    assert again.value("forgetting.perplexity") != once
    assert next(f.n for f in again.findings) == 6


def test_threads_named_in_the_recipe_are_used(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    data = write_jsonl(tmp_path / "chat.jsonl", chat_records())
    luthier.run(lm_recipe(llama_folder, data, machine={"threads": 3}), out=tmp_path / "run", until="prepare")
    assert asked == [3]
