"""A teacher is trained, a smaller student learns from it, and what the teacher said is asked once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from small_runs import chat_records, class_recipe, label_records, lm_recipe, write_jsonl
from tiny import make_llama, make_tokenizer

import luthier
from luthier.core.errors import ModelError, RecipeError
from luthier.core.run import read_events
from luthier.plan.plan import plan


def notes(folder: Path) -> list[str]:
    found = [event["text"] for event in read_events(folder / "events.jsonl") if event["event"] == "note"]
    return [text for text in found if "was asked about" in text]


def steps(folder: Path) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "events.jsonl") if event["event"] == "step"]


@pytest.fixture(scope="module")
def teacher(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> luthier.pipeline.end_to_end.Run:
    folder = tmp_path_factory.mktemp("teacher")
    data = write_jsonl(folder / "rows.jsonl", label_records())
    return luthier.run(class_recipe(bert_folder, data, epochs=12, checks=[]), out=folder / "run")


def test_a_classifier_learns_from_a_run(teacher, bert_folder: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", label_records())
    objective = {"distill_classify": {"teacher": str(teacher.folder), "hard": 0.0}}  # no label is read
    recipe = class_recipe(bert_folder, data, objective=objective, epochs=10, checks=["classification"])
    run = luthier.run(recipe, out=tmp_path / "run")
    assert run.value("classification.accuracy") > 0.6
    first, last = steps(run.folder)[0]["terms"], steps(run.folder)[-1]["terms"]
    assert last["divergence"] < 0.7 * first["divergence"]
    assert len(notes(run.folder)) == 2, "train and validation, once: base found what was said to it"

    luthier.run(recipe, ["phases.0.objective.distill_classify.temperature=4"], out=tmp_path / "run")
    assert len(notes(run.folder)) == 2, "what the teacher said goes with every temperature"


def test_a_recipe_trains_a_teacher_and_a_student_of_one_of_its_layers(llama_folder: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "rows.jsonl", chat_records())
    recipe = lm_recipe(llama_folder, data, adaptation="full", epochs=5, checks=["perplexity"])
    taught = {"distill": {"teacher": "sft", "temperature": 1.0, "hard": 0.0}}
    recipe["phases"].append({**recipe["phases"][0], "name": "student", "objective": taught, "keep_layers": [0]})
    run = luthier.run(recipe, out=tmp_path / "run")
    learned = [step["terms"]["divergence"] for step in steps(run.folder) if step["phase"] == "student"]
    assert learned[-1] < 0.7 * learned[0]
    kept = load_file(run.folder / "phases/2-student/reference-train.safetensors")
    assert kept["ids"].shape == (int(kept["lengths"].sum()), 64)
    assert json.loads((run.model / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"] == 1

    recipe["phases"][1]["objective"] = {"distill": {"teacher": "student"}}
    with pytest.raises(RecipeError, match="does not come before it"):
        luthier.run(recipe, out=tmp_path / "other")


def test_a_teacher_that_cannot_be_asked_is_refused(teacher, bert_folder: Path, tmp_path: Path) -> None:
    other = [{**record, "label": record["label"].upper()} for record in label_records()]
    data = write_jsonl(tmp_path / "rows.jsonl", other)
    for source, found in ((str(teacher.model), "was not trained on these classes"), ("embedded:minilm", "classes")):
        recipe = class_recipe(bert_folder, data, objective={"distill_classify": {"teacher": source}}, epochs=1)
        with pytest.raises(ModelError, match=found):
            luthier.run(recipe, out=tmp_path / "run")
    chats = write_jsonl(tmp_path / "chats.jsonl", chat_records())
    recipe = lm_recipe(teacher.model, chats, objective={"distill": {"teacher": "embedded:nano"}})
    with pytest.raises(ModelError):
        luthier.run(recipe, out=tmp_path / "words")


def saved(folder: Path, model: Any, tokenizer: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_wider_teachers_states_are_learned_and_its_maps_are_left_behind(llama_folder: Path, tmp_path: Path) -> None:
    """With answers of the student's own, so that all three losses run together; a plan knows of them too."""
    teacher = saved(tmp_path / "teacher", make_llama(seed=1, hidden_size=48), make_tokenizer())
    data = write_jsonl(tmp_path / "rows.jsonl", chat_records(24))
    taught = {"teacher": str(teacher), "layers": [[0, 0], [1, 1]], "on_policy": 0.5, "max_new_tokens": 4, "hard": 0.2}
    taught["state_distance"] = "cosine"
    recipe = lm_recipe(llama_folder, data, objective={"distill": taught}, adaptation="full", epochs=3, checks=[])
    assert plan(recipe).phases[0].steps > 4
    with pytest.raises(ModelError, match=r"the teacher has 2 layers, 0 to 1, and layer 2 is asked for"):
        luthier.run(recipe, ["phases.0.objective.distill.layers=[[0, 2]]"], out=tmp_path / "beyond")
    run = luthier.run(recipe, out=tmp_path / "run")
    told = steps(run.folder)
    assert {*told[0]["terms"]} == {"nll", "divergence", "states"}
    assert told[-1]["terms"]["states"] < told[0]["terms"]["states"]
    own = [step["figures"]["own_answers"] for step in told]
    assert 0.2 < sum(own) / len(own) < 0.8
    assert load_file(run.model / "model.safetensors").keys() == load_file(llama_folder / "model.safetensors").keys()
    newest = sorted(run.folder.glob("phases/1-sft/checkpoints/step-*"))[-1]
    kept = [name for file in newest.glob("*.safetensors") for name in load_file(file)]
    assert {"objective.0.weight", "objective.1.weight"} <= {*kept}, "a fit that goes on has its maps"


def test_a_teacher_of_another_family_is_heard_where_tokens_end_alike(llama_folder: Path, tmp_path: Path) -> None:
    teacher = saved(tmp_path / "teacher", make_llama(vocabulary=320, seed=1), make_tokenizer(size=320))
    data = write_jsonl(tmp_path / "rows.jsonl", chat_records(32))
    objective: dict[str, Any] = {"distill_across": {"teacher": str(teacher), "hard": 0.0, "ranks": 0.5}}
    recipe = lm_recipe(llama_folder, data, objective=objective, adaptation="full", epochs=3, checks=["perplexity"])
    run = luthier.run(recipe, out=tmp_path / "run")
    first, last = steps(run.folder)[0]["terms"], steps(run.folder)[-1]["terms"]
    assert {*first} == {"nll", "spans", "ranks"}
    assert last["spans"] < first["spans"]
    assert len(notes(run.folder)) == 2

    recipe["phases"][0]["objective"] = {"distill": {"teacher": str(teacher)}}
    with pytest.raises(ModelError, match="distill_across"):
        luthier.run(recipe, out=tmp_path / "alike")
    recipe["phases"].append(
        {**recipe["phases"][0], "name": "next", "objective": {"distill_across": {"teacher": "sft"}}}
    )
    with pytest.raises(RecipeError, match="take the objective distill"):
        luthier.run(recipe, out=tmp_path / "own")


@pytest.mark.parametrize(("kind", "adaptation"), [("bert", "classic"), ("llama", "zero_shot")])
def test_a_run_whose_adaptation_lies_beside_its_weights_can_teach(
    kind: str, adaptation: str, bert_folder: Path, llama_folder: Path, tmp_path: Path
) -> None:
    """The remedy where such a phase is to teach another of its recipe, which needs it folded in."""
    model = bert_folder if kind == "bert" else llama_folder
    data = write_jsonl(tmp_path / "rows.jsonl", label_records(36))
    first = class_recipe(model, data, adaptation=adaptation, checks=[])
    for unread in ("epochs", "optimizer"):
        del first["phases"][0][unread]
    run = luthier.run(first, out=tmp_path / "teacher")
    taught = {"distill_classify": {"teacher": str(run.folder)}}
    student = luthier.run(class_recipe(model, data, objective=taught, epochs=1, checks=[]), out=tmp_path / "student")
    assert len(notes(student.folder)) == 2
    for other in (["reed", "bow"], ["reed", "bow", "neck", "pegs"]):
        fewer = [{**record, "label": other[n % len(other)]} for n, record in enumerate(label_records(36))]
        rows = write_jsonl(tmp_path / "other.jsonl", fewer)
        with pytest.raises(ModelError, match="was not trained on these classes"):
            luthier.run(class_recipe(model, rows, objective=taught, epochs=1, checks=[]), out=tmp_path / "refused")
    (later,) = class_recipe(model, data, objective={"distill_classify": {"teacher": "intents"}})["phases"]
    recipe = {**first, "phases": [first["phases"][0], {**later, "name": "student", "from": str(model)}]}
    with pytest.raises(RecipeError, match="the phase 'student' asks 'intents'"):
        luthier.run(recipe, out=tmp_path / "both")
