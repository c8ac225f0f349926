"""A plan on a tiny model: counts against the encoding and transformers, nothing written, every problem at once."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from small_runs import class_recipe, label_records, write_jsonl

from luthier.core.errors import DataError, ModelError, RecipeError
from luthier.plan.plan import Plan, plan
from luthier.plan.show import show


def conversation(number: int, words: int = 3) -> dict[str, object]:
    text = " ".join(["violin"] * words)
    return {
        "messages": [
            {"role": "user", "content": f"{number} {text}?"},
            {"role": "assistant", "content": f"Yes, {number}."},
        ]
    }


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, llama_folder: Path) -> dict[str, object]:
    rows = [conversation(number) for number in range(40)] + [conversation(3), conversation(99, words=80)]
    file = tmp_path_factory.mktemp("data") / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {
        "name": "tiny",
        "model": str(llama_folder),
        "data": {"train": str(file), "validation": 0.2, "test": 0.2, "steps": ["deduplicate"]},
        "phases": [
            {"name": "one", "adaptation": "lora", "epochs": 2, "per_step": {"rows": 4}, "max_length": 60},
            {"name": "two", "adaptation": "full", "steps": 5, "per_step": {"tokens": 128}},
        ],
        "checks": [{"text_match": {"limit": 5}}, "perplexity", "parity"],
        "machine": {"device": "cpu", "dtype": "float32"},
        "decoding": {"max_new_tokens": 8},
    }


@pytest.fixture(scope="module")
def made(recipe: dict[str, object]) -> Plan:
    return plan(recipe)


def test_rows_and_tokens_are_those_of_the_encoding(made: Plan, recipe: dict[str, object]) -> None:
    first, second = made.phases
    assert sum(split.examples for split in first.splits.values()) == 42 - 1
    assert made.data["splits"] == {name: split.examples for name, split in first.splits.items()}
    longer = second.splits["train"].tokens - first.splits["train"].tokens
    cut = sum(item.before - item.after for item in first.truncated.values())
    others = sum(second.splits[name].tokens - first.splits[name].tokens for name in ("validation", "test"))
    assert len(first.truncated) == 1
    assert longer + others == cut
    assert max(split.longest for split in first.splits.values()) <= 60


def test_steps_and_weights(made: Plan, llama: object) -> None:
    first, second = made.phases
    rows = first.splits["train"].rows
    assert first.steps == 2 * -(-rows // 4)
    assert second.steps == 5
    total = sum(p.numel() for p in llama.parameters())  # type: ignore[attr-defined]
    assert second.trained == second.parameters == total
    assert first.parameters == total + first.trained
    assert 0 < first.trained < total
    buffers = sum(b.nbytes for b in llama.buffers())  # type: ignore[attr-defined]
    assert second.room.memory.weights == 4 * total + buffers


def test_the_probe_measured(made: Plan) -> None:
    for phase in made.phases:
        assert phase.probe.steps == 3
        assert phase.probe.tokens_per_s > 0
        assert phase.probe.peak >= phase.room.memory.weights
        assert phase.seconds >= phase.tokens / phase.probe.tokens_per_s
    assert (made.checks[0].name, made.checks[0].items) == ("text_match", 5)
    assert made.seconds > 0


def test_template_and_stops(made: Plan) -> None:
    assert made.template is not None
    assert made.template.startswith("the model's own, masks from its generation marks")
    assert made.stop == ("<|im_end|>",)


def test_nothing_is_written(recipe: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file: file.stat().st_mtime_ns for file in Path(str(recipe["model"])).rglob("*")}
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    plan(recipe, ["checks=[perplexity]"])
    assert list((tmp_path / "here").iterdir()) == []
    assert list(temporary.iterdir()) == []
    assert {file: file.stat().st_mtime_ns for file in Path(str(recipe["model"])).rglob("*")} == before


def test_the_page_reads_well_in_a_pipe(made: Plan) -> None:
    out = io.StringIO()
    show(made, Console(file=out, width=100, color_system=None))
    text = out.getvalue()
    for words in (
        "phase 1 of 2, one",
        "causal_lm with lora",
        "1 rows are shortened",
        "deduplicate dropped",
        "<|im_end|>",
    ):
        assert words in text
    assert "\x1b" not in text
    assert f"{made.phases[0].trained:,} train" in text


def test_without_color_learned_tokens_stand_between_marks(made: Plan) -> None:
    out = io.StringIO()
    show(made, Console(file=out, width=100, color_system=None))
    text = out.getvalue()
    assert "learned tokens between « and »" in text
    assert "green" not in text
    shown = text[text.index("learned tokens between") :].splitlines()[2:]
    answer = next(line for line in shown if "Yes" in line)
    assert answer.index("«") < answer.index("Yes")
    asked = next(line for line in shown if "user" in line)
    assert "«" not in asked


def test_a_narrow_page_folds_reasons_and_not_the_names_of_steps(made: Plan) -> None:
    out = io.StringIO()
    show(made, Console(file=out, width=50, color_system=None))
    assert "deduplicate dropped" in out.getvalue()


def test_learned_tokens_are_green_on_a_terminal(made: Plan) -> None:
    out = io.StringIO()
    show(made, Console(file=out, width=100, color_system="standard", force_terminal=True, highlight=False))
    answer = next(line for line in out.getvalue().splitlines() if "Yes" in line)
    assert "\x1b[32m" in answer


def test_every_problem_comes_at_once(recipe: dict[str, object]) -> None:
    with pytest.raises(RecipeError) as error:
        plan(recipe, ["data.train=absent.jsonl", "model=nowhere/at/all", "checks=[classification]", "seed=[1,1]"])
    assert {problem.where.split(": ")[-1] for problem in error.value.problems if problem.where} == {
        "seed", "checks.0", "model", "data.train"
    }  # fmt: skip


def labeled(folder: Path) -> Path:
    rows = [{"text": f"{word} {i}", "label": word} for i in range(12) for word in ("violin", "moon")]
    return write_jsonl(folder / "labeled.jsonl", rows)


def test_a_teacher_that_is_not_there_is_told_before_the_data_is_read(bert_folder: Path, tmp_path: Path) -> None:
    taught = {"distill_classify": {"teacher": str(tmp_path / "nowhere")}}
    recipe = class_recipe(bert_folder, labeled(tmp_path), objective=taught)
    with pytest.raises(ModelError, match="there is no such folder") as error:
        plan(recipe)
    assert "phases.0.objective.distill_classify" in str(error.value)


def test_an_adaptation_whose_package_is_absent_is_told_with_the_recipe(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after the phases that come first were trained; and not where the classifier needs no package."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "sklearn" else real(name))
    recipe = class_recipe(bert_folder, labeled(tmp_path), adaptation="classic", epochs=None, optimizer="adamw")
    with pytest.raises(RecipeError) as error:
        plan(recipe)
    (problem,) = error.value.problems
    assert (problem.where, problem.remedy) == ("recipe: phases.0.adaptation", "pip install 'luthier[classic]'")
    recipe["phases"][0]["adaptation"] = {"classic": {"kind": "centroid"}}
    assert plan(recipe).phases[0].steps == 1


def test_a_check_that_cannot_measure_is_found_before_training(recipe: dict[str, object], tmp_path: Path) -> None:
    plain = tmp_path / "plain.jsonl"
    plain.write_text("".join(json.dumps({"text": f"a tale of {i} wolves"}) + "\n" for i in range(12)), encoding="utf-8")
    with pytest.raises(DataError, match="reference answer"):
        plan(recipe, [f"data.train={plain}", "checks=[text_match]"])


def test_classification_counts_the_training_of_the_base_head(bert_folder: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{word} {i}", "label": word} for i in range(12) for word in ("violin", "moon")]
    file = tmp_path / "labeled.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = plan(
        {
            "name": "labels",
            "model": str(bert_folder),
            "data": {"train": str(file), "test": 0.25},
            "phases": [{"objective": "classify", "per_step": {"rows": 8}}],
            "checks": ["classification"],
            "machine": {"device": "cpu", "dtype": "float32"},
        }
    )
    assert found.base_seconds > 0
    assert found.stop == ()
    assert found.template is None
    assert found.phases[0].splits["train"].supervised == 0


def test_a_plan_of_pairs_asks_the_reference_about_a_few_rows(llama_folder: Path, tmp_path: Path) -> None:
    """It trains its steps, counts the pass of the reference over all rows, and leaves nothing behind."""
    asked = [{"prompt": f"{number} violin?", "chosen": "Yes.", "rejected": f"No, {number}."} for number in range(200)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), encoding="utf-8")
    phase = {"objective": "dpo", "adaptation": "lora", "epochs": 1, "per_step": {"rows": 4}}
    recipe: dict[str, object] = {
        "name": "pairs",
        "model": str(llama_folder),
        "data": {"train": str(tmp_path / "pairs.jsonl"), "test": 0.2},
        "phases": [phase],
        "checks": ["preferences"],
        "machine": {"device": "cpu", "dtype": "float32", "micro_tokens": 64},
    }
    (one,) = plan(recipe).phases
    assert one.probe.steps == 3
    assert one.seconds == pytest.approx((one.tokens + one.splits["train"].tokens / 3) / one.probe.tokens_per_s)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.jsonl"]


@pytest.mark.parametrize("adaptation", ["in_context", "zero_shot", {"classic": {"kind": "rbf_svm"}}])
def test_what_is_solved_at_once_is_planned_without_a_step(
    adaptation: object, llama_folder: Path, tmp_path: Path
) -> None:
    """Trial steps would time what never happens; the rows go through the model once instead, here in one batch."""
    data = write_jsonl(tmp_path / "rows.jsonl", label_records(24))
    recipe = class_recipe(llama_folder, data, adaptation=adaptation, checks=["classification"])
    del recipe["phases"][0]["epochs"]
    (phase,) = plan(recipe).phases
    assert phase.steps == phase.probe.steps == 1
    assert phase.probe.tokens_per_s > 0
    assert phase.seconds > 0
