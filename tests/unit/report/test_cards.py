"""The model card: the hub's own reader understands it, and text from data cannot become markup."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from made_up_run import FINDINGS, HOSTILE, RECIPE
from markdown_it import MarkdownIt

from luthier.core.gates import Verdict
from luthier.report.cards import _plain, write_card


def card_of(folder: Path) -> ModelCard:
    path = write_card(folder)
    assert path == folder / "README.md"
    return ModelCard.load(path)


def rendered(text: str) -> str:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text)


def test_the_hub_reads_the_front_matter(run_folder: Path):
    data = card_of(run_folder).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "transformers", "text-generation")
    assert data.base_model is None  # embedded: no hub id
    assert {"causal-lm", "lora", "luthier"} <= set(data.tags)
    results = {(r.dataset_name, r.metric_name): (r.metric_type, r.metric_value) for r in data.eval_results}
    assert results["test split of shop (200 rows)", "text_match.exact"] == ("exact_match", 0.71)
    assert results["general text of the forgetting check", "forgetting.perplexity_ratio"] == ("perplexity_ratio", 1.014)
    assert len(results) == 5


def test_a_hub_model_and_hub_data_are_named(run_folder: Path):
    recipe = RECIPE.replace("embedded:nano", "HuggingFaceTB/SmolLM2-135M@main").replace(
        "train: shop.jsonl", "train: acme/repairs"
    )
    (run_folder / "recipe.yaml").write_text(recipe)
    data = card_of(run_folder).data
    assert (data.base_model, data.datasets) == ("HuggingFaceTB/SmolLM2-135M", ["acme/repairs"])


@pytest.mark.parametrize(
    "source", ["data/train.jsonl", "./models/mine", "embedded:nano", "/srv/models/x", "a/b/c", "folder/x.csv.gz"]
)
def test_files_and_folders_are_no_hub_ids(run_folder: Path, source: str):
    recipe = RECIPE.replace("model: embedded:nano", f"model: {source}").replace("train: shop.jsonl", f"train: {source}")
    (run_folder / "recipe.yaml").write_text(recipe)
    data = card_of(run_folder).data
    assert (data.base_model, data.datasets) == (None, None)


def test_a_license_that_the_hub_does_not_know_as_an_id(run_folder: Path):
    (run_folder / "recipe.yaml").write_text(RECIPE.replace("apache-2.0", "Ours, all rights"))
    data = card_of(run_folder).data.to_dict()
    assert (data["license"], data["license_name"]) == ("other", "Ours, all rights")


def test_tables_and_sections_are_markdown(run_folder: Path):
    html = rendered(card_of(run_folder).text)
    assert re.findall(r"<h2>(.*?)</h2>", html) == [
        "How to use", "Training data", "Procedure", "Evaluation", "Limits", "How to reproduce", "Environment",
    ]  # fmt: skip
    assert html.count("<table>") == 5  # inputs, steps, comparison, exported, gates
    assert "<td>0.710 (0.645 to 0.770)</td>" in html
    assert "<td>holds</td>" in html
    assert "<td>zero-width characters (61), answer is empty (12)</td>" in html
    assert "<li>versions: python 3.11.9, torch 2.13.0</li>" in html


def test_hostile_text_stays_text(run_folder: Path):
    manifest = json.loads((run_folder / "manifest.json").read_text())
    evil = HOSTILE + "\n\n# not a heading | ![x](http://evil.example/y.png) `code` *strong*"
    manifest |= {"name": evil, "inputs": {evil: {"sha256": "s", "bytes": 1, "rows": 1}}, "machine": {evil: evil}}
    (run_folder / "manifest.json").write_text(json.dumps(manifest))
    step = {"split": evil, "step": evil, "reason": evil, "action": "dropped", "count": 1}
    (run_folder / "data" / "summary.json").write_text(json.dumps({"splits": {evil: 3}, "read": 4, "steps": [step]}))
    html = rendered(card_of(run_folder).text)
    assert "<script" not in html
    assert "<img" not in html
    assert "<em>" not in html
    assert html.count("<h1>") == 1
    assert html.count("<table>") == 5


@pytest.mark.parametrize(
    "text",
    ["a_b_c", "_a_", "*x*", "<b>", "a|b", "`c`", "[l](u)", "> q", "# h", "- i", "a\\b", "~~s~~", "&lt;", "1 >= 0"],
)
def test_escaped_text_reads_as_it_was(text: str):
    html = rendered(f"before {_plain(text)} after\n\n{_plain(text)}")
    shown = re.sub(r"<.*?>", "", html).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert shown.splitlines() == [f"before {text} after", text]


def snippets(card: ModelCard) -> list[str]:
    return re.findall(r"```python\n(.*?)```", card.text, flags=re.S)


def test_snippets_are_python_and_name_what_is_there(run_folder: Path):
    adapter = run_folder / "phases" / "1-sft" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}")
    (run_folder / "model").mkdir()
    use, alone = snippets(card_of(run_folder))
    assert "apply_chat_template" not in use
    assert 'PeftModel.from_pretrained(base, "phases/1-sft/adapter")' in alone
    (run_folder / "model" / "chat_template.jinja").write_text("{{ messages }}")
    templated = snippets(card_of(run_folder))[0]
    assert "apply_chat_template" in templated
    for snippet in (use, alone, templated):
        ast.parse(snippet)


def test_beside_a_plain_base_no_snippet_gives_what_was_not_trained(run_folder: Path):
    """Of an adaptation that cannot be folded in: plain transformers would answer, with the base's weights."""
    adapter = run_folder / "model" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "luthier.json").write_text(json.dumps({"adaptation": {"bottleneck": {}}}))
    card = card_of(run_folder)
    (use,) = snippets(card)
    ast.parse(use)
    assert 'load_model("model", "causal_lm")' in use
    assert "transformers" not in use
    assert 'puts it on: `luthier generate model "..."`, or in Python\n\n```python' in card.text


def test_the_snippet_runs(
    run_folder: Path, llama_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (run_folder / "model").symlink_to(llama_folder)
    monkeypatch.chdir(run_folder)
    (use,) = snippets(card_of(run_folder))
    assert "apply_chat_template" in use
    exec(compile(use.replace("=128", "=3"), "snippet", "exec"), {})
    assert capsys.readouterr().out.endswith("\n")


def test_a_classifier(run_folder: Path):
    (run_folder / "recipe.yaml").write_text(RECIPE.replace("objective: causal_lm", "objective: {classify: {}}"))
    adapter = run_folder / "phases" / "1-sft" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}")
    card = card_of(run_folder)
    assert card.data.pipeline_tag == "text-classification"
    use, alone = snippets(card)
    assert 'pipeline("text-classification"' in use
    assert "num_labels=4" in alone


def test_limits_follow_the_evidence(run_folder: Path):
    worse = [replace(f, better="lower") for f in FINDINGS[:3]]
    gates = [Verdict("text_match.exact <= base", 0.71, 0.02, False)]
    evidence = {"findings": [asdict(f) for f in worse], "gates": [asdict(g) for g in gates]}
    (run_folder / "evidence.json").write_text(json.dumps(evidence))
    text = card_of(run_folder).text
    limits = text[text.index("## Limits") :]
    assert "The gate text_match.exact \\<= base does not hold." in limits
    assert "Training made this worse: text_match.exact." in limits
    assert "general ability was not measured" in limits
    assert "One seed was run" in limits
    assert "3 rows were truncated" in limits


def test_only_a_recipe(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text("name: bare\nmodel: embedded:nano\ndata: {train: x.jsonl}\n")
    card = card_of(tmp_path)
    assert card.data.eval_results is None
    assert "not come to its end" in card.text
    assert "**train**: causal_lm, full, adamw, cosine" in card.text


def test_what_is_solved_for_has_no_optimizer(tmp_path: Path):
    """Its recipe names the defaults all the same, and its training counts as one step."""
    moved = "optimizer: adamw, schedule: cosine, max_length: 64"
    first = f"{{name: first, objective: classify, adaptation: {{classic: {{kind: centroid}}}}, {moved}}}"
    phases = f"phases: [{first}, {{objective: classify, {moved}}}]"
    (tmp_path / "recipe.yaml").write_text(f"name: bare\nmodel: embedded:minilm\n{phases}\n")
    trained = {"steps": 1, "epochs": 1, "tokens": 2877, "seconds": 2.6, "trainable": 6545, "parameters": 22571921}
    record = {"format": 1, "training": {"first": trained}}
    (tmp_path / "manifest.json").write_text(json.dumps(record))
    solved, moving = (line for line in card_of(tmp_path).text.splitlines() if line.startswith("- **"))
    assert ": classify, classic, solved at once." in solved
    assert "max_length" in solved
    assert not {"adamw", "cosine"} & set(re.findall(r"\w+", solved))
    assert ": classify, full, adamw, cosine. Settings: " in moving
    assert "2,877 tokens, in 2.6 s" in card_of(tmp_path).text
    assert "1 steps" not in card_of(tmp_path).text


def test_repetitions_point_to_the_first_seeds_model(tmp_path: Path):
    for seed in (3, 12):
        (tmp_path / "seeds" / f"seed-{seed}" / "model").mkdir(parents=True)
    (tmp_path / "recipe.yaml").write_text("name: twice\nseed: [3, 12]\n")
    card = card_of(tmp_path)
    assert 'from_pretrained("seeds/seed-3/model")' in snippets(card)[0]
    assert "Repeated with the seeds 3, 12." in card.text
    assert "## Environment" not in card.text


def test_the_card_names_no_place_of_this_machine_and_no_credential(run_folder: Path):
    places = ["/srv/jane/one/train.jsonl", "/srv/jane/two/train.jsonl", "/srv/jane doe/models/mine"]
    recipe = RECIPE.replace("model: embedded:nano", f"model: {places[2]}").replace(
        "train: shop.jsonl", f"train: {places[0]}"
    )
    (run_folder / "recipe.yaml").write_text(recipe)
    manifest = json.loads((run_folder / "manifest.json").read_text())
    manifest["inputs"] = {place: {"rows": 3, "bytes": 9, "sha256": "0" * 64} for place in places[:2]}
    (run_folder / "manifest.json").write_text(json.dumps(manifest))
    text = f"the first at {places[0]}:7 (https://jane:swordfish@example.org/x)"
    with (run_folder / "events.jsonl").open("a") as log:
        log.write("\n" + json.dumps({"event": "warning", "text": text}) + "\n")
    card = write_card(run_folder).read_text()
    assert not re.search(r"jane|/srv|swordfish", card)
    assert "| train.jsonl |" in card
    assert "| train.jsonl (2) |" in card
    assert "Fine-tuned from `mine`" in card
    assert "the first at train.jsonl:7" in card
