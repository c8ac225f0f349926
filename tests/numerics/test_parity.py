"""After a real run: plain PEFT and plain transformers give the log-probabilities of Luthier's own subjects."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from small_runs import chat_records, class_recipe, label_records, lm_recipe, write_jsonl
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import luthier
from luthier.core.errors import LuthierError
from luthier.core.recipe_file import load_recipe
from luthier.core.run import EventLog, RunFolder
from luthier.data.prepare import load
from luthier.engine.device import Compute
from luthier.engine.phase import Setting
from luthier.models.load import load_model
from luthier.pipeline.end_to_end import Run
from luthier.pipeline.subjects import subject

TOLERANCE = 1e-5
CPU = Compute(torch.device("cpu"), torch.float32, "a test")


def setting_of(run: Run) -> Setting:
    return Setting(load_recipe(run.folder), RunFolder(run.folder), CPU, EventLog(None), 1)


def made(folder: Path, recipe: dict[str, Any]) -> Run:
    run = luthier.run(recipe, out=folder / "run")
    assert run.value("parity.max_difference", "reloaded") <= TOLERANCE
    return run


@pytest.fixture(scope="module")
def chat(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("parity")
    data = write_jsonl(place / "chat.jsonl", chat_records())
    return made(place, lm_recipe(llama_folder, data, checks=["parity"]))


def plain_logps(model: Any, run: Run) -> list[np.ndarray]:
    """Log-probabilities of each test row's answer by transformers alone: template, tokenizer, model, softmax."""
    tokenizer = AutoTokenizer.from_pretrained(run.model)
    found = []
    for example in load(run.folder / "data").splits["test"]:
        turns = [turn.message() for turn in example.parts["messages"]]
        given = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
        ids = torch.tensor([given["input_ids"]])
        with torch.no_grad():
            logps = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        chosen = logps.gather(-1, ids[0, 1:, None])[:, 0]
        found.append(chosen[torch.tensor(given["assistant_masks"][1:]).bool()].numpy())
    return found


@pytest.mark.parametrize("name", ["tuned", "merged", "reloaded"])
def test_adapter_and_merged_model_outside_are_the_subjects_inside(chat: Run, name: str) -> None:
    test = load(chat.folder / "data").splits["test"]
    inside = subject(setting_of(chat), name, torch.float32).token_logps(test)
    base = AutoModelForCausalLM.from_pretrained(load_recipe(chat.folder).model)
    before = plain_logps(base, chat)
    adapter = PeftModel.from_pretrained(base, str(chat.folder / "phases" / "1-sft" / "result")).eval()
    for model in (adapter, AutoModelForCausalLM.from_pretrained(chat.model)):
        outside = plain_logps(model, chat)
        for ours, theirs in zip(inside, outside, strict=True):
            assert len(theirs) > 3
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)
    assert max(np.abs(a - b).max() for a, b in zip(before, inside, strict=True)) > 0.1


def test_peft_takes_every_weight_of_the_adapter(chat: Run) -> None:
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    folder = chat.folder / "phases" / "1-sft" / "result"
    base = AutoModelForCausalLM.from_pretrained(load_recipe(chat.folder).model)
    model = get_peft_model(base, LoraConfig.from_pretrained(folder, inference_mode=False))
    result = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
    assert not result.unexpected_keys
    assert not [key for key in result.missing_keys if "lora" in key]


@pytest.mark.parametrize("adaptation", ["full", {"lora": {"rank": 4}}], ids=["full", "lora"])
def test_a_classifier_outside_is_the_subject_inside(adaptation: Any, bert_folder: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "labels.jsonl", label_records())
    run = made(tmp_path, class_recipe(bert_folder, data, checks=["parity"], adaptation=adaptation))
    test = load(run.folder / "data").splits["test"]
    tokenizer = AutoTokenizer.from_pretrained(run.model)
    models = [AutoModelForSequenceClassification.from_pretrained(run.model).eval()]
    if adaptation != "full":
        base = AutoModelForSequenceClassification.from_pretrained(bert_folder, num_labels=3)
        folder = run.folder / "phases" / "1-intents" / "result"
        models.append(PeftModel.from_pretrained(base, str(folder)).eval())
    inside = [subject(setting_of(run), name, torch.float32).classify(test) for name in ("tuned", "merged", "reloaded")]
    assert models[0].config.id2label == {0: "bad", 1: "good", 2: "odd"}
    given = tokenizer([example.parts["text"] for example in test], padding=True, return_tensors="pt")
    for model in models:
        with torch.no_grad():
            outside = model(**given).logits.log_softmax(-1).numpy()
        for ours in inside:
            np.testing.assert_allclose(ours, outside, rtol=0, atol=TOLERANCE)


# ---- what cannot be folded in ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def carried(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("carried")
    data = write_jsonl(place / "chat.jsonl", chat_records())
    recipe = lm_recipe(llama_folder, data, checks=["parity", "perplexity"], adaptation={"bottleneck": {"reduction": 2}})
    return made(place, recipe)


def test_bottlenecks_are_put_back_on_and_parity_measures_what_exists(carried: Run) -> None:
    subjects = {finding.subject for finding in carried.findings if finding.check == "parity"}
    assert subjects == {"reloaded"}
    assert carried.value("perplexity.perplexity") < carried.value("perplexity.perplexity", "base")
    assert (carried.model / "adapter" / "trained.safetensors").is_file()
    spec = json.loads((carried.model / "adapter" / "luthier.json").read_text())
    assert list(spec["adaptation"]) == ["bottleneck"]


def test_plain_transformers_gets_the_base_and_the_card_says_so(carried: Run) -> None:
    base = AutoModelForCausalLM.from_pretrained(load_recipe(carried.folder).model)
    outside = AutoModelForCausalLM.from_pretrained(carried.model)
    for name, value in base.state_dict().items():
        assert torch.equal(value, outside.state_dict()[name]), name
    card = (carried.folder / "README.md").read_text()
    assert "Plain transformers loads the weights alone" in card
    assert "AutoModelForCausalLM.from_pretrained" not in card  # no snippet that gives what was not trained
    assert 'load_model("model", "causal_lm")' in card
    assert "bottleneck" in card


def test_luthiers_loader_applies_what_is_carried(carried: Run) -> None:
    loaded = load_model(str(carried.model), "causal_lm")
    assert loaded.carried == "bottleneck"
    assert not loaded.model.training
    test = load(carried.folder / "data").splits["test"]
    tuned = subject(setting_of(carried), "tuned", torch.float32)
    ids = torch.tensor([tuned.encoding.conversation(test[0])[0].ids.tolist()])
    with torch.no_grad():
        ours = tuned.role.model(input_ids=ids).logits
        again = loaded.model(input_ids=ids).logits
        base = AutoModelForCausalLM.from_pretrained(carried.model)(input_ids=ids).logits
    assert torch.allclose(ours, again, atol=1e-6)
    assert float((ours - base).abs().max()) > 0.05
    half = load_model(str(carried.folder), "causal_lm", dtype=torch.bfloat16)
    kinds = {name: p.dtype for name, p in half.model.named_parameters()}
    assert {kind for name, kind in kinds.items() if ".bottleneck." in name} == {torch.float32}
    assert {kind for name, kind in kinds.items() if ".bottleneck." not in name} == {torch.bfloat16}


def test_generate_uses_what_is_carried(carried: Run) -> None:
    from luthier.cli.talk import Talker

    talker = Talker(carried.folder, 4, None, 1)
    assert talker.loaded.carried == "bottleneck"
    assert isinstance(talker.answer([("user", "Number 3: the bow?")]), str)


def test_no_phase_starts_from_what_cannot_be_folded_in(carried: Run, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "chat.jsonl", chat_records())
    with pytest.raises(LuthierError, match="carries the adaptation bottleneck"):
        luthier.run(lm_recipe(carried.folder, data), out=tmp_path / "run")


def test_a_damaged_description_is_an_error_and_not_the_base(carried: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(carried.model, tmp_path / "model")
    (folder / "adapter" / "luthier.json").write_text('{"adaptation": "bottelneck"}')
    with pytest.raises(LuthierError, match="bottelneck"):
        load_model(str(folder), "causal_lm")
    shutil.copy(carried.model / "adapter" / "luthier.json", folder / "adapter")
    (folder / "adapter" / "trained.safetensors").unlink()
    with pytest.raises(LuthierError):
        load_model(str(folder), "causal_lm")
