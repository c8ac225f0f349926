"""Classes by a language model's own words: log-probabilities by hand, calibration, examples, whole runs."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import class_recipe, label_records, write_jsonl
from tiny import make_bert, make_tokenizer

import luthier
from luthier.core.component import build
from luthier.core.errors import ModelError, RecipeError
from luthier.core.recipe import Recipe
from luthier.models import fused
from luthier.models.label_words import CONTENT_FREE, Bank
from luthier.models.load import load_model
from luthier.models.roles import role_of
from luthier.pipeline import Run

NAMES = ["new_string", "bow", "a broken_bridge"]
WORDS = ["new string", "bow", "a broken bridge"]
TEXTS = ["The violin is out of tune.", "My bow!", "How long does a setup take, and what does it cost?"]


def classifier(folder: Path, adaptation: Any) -> tuple[Any, Any, Any]:
    """The adaptation, the model with it, and the tokenizer."""
    built: Any = build("adaptations", adaptation)
    loaded = load_model(
        str(folder),
        "sequence_classification",
        labels=NAMES,
        problem="single_label_classification",
        words=True,
    )
    model = built.apply(loaded.model)
    built.furnish(model, loaded.tokenizer)
    return built, model, loaded.tokenizer


def plain(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def by_hand(lm: Any, tokenizer: Any, prompt: str, words: str) -> list[float]:
    """The log-probability of each token of a class behind a prompt, by transformers alone."""
    begin = tokenizer("a")["input_ids"][: -len(plain(tokenizer, "a"))]
    head = [*begin, *plain(tokenizer, prompt)]
    whole = [*begin, *plain(tokenizer, f"{prompt} {words}")]
    assert whole[: len(head)] == head
    with torch.no_grad():
        logps = lm(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    return [float(logps[at - 1, whole[at]]) for at in range(len(head), len(whole))]


def logits_of(model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """By transformers' own call, padded at the end."""
    rows = [tokenizer(text)["input_ids"] for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=mask).logits.double()


@pytest.mark.parametrize("score", ["mean", "sum"])
def test_a_decoder_scores_classes_by_their_log_probabilities(llama_folder, score):
    zero_shot, model, tokenizer = classifier(llama_folder, {"zero_shot": {"score": score}})
    wanted = []
    for text in TEXTS:
        each = [by_hand(model.reader.lm, tokenizer, f"{text}\nThis is about", words) for words in WORDS]
        assert len({len(tokens) for tokens in each}) > 1, "classes of different lengths"
        wanted.append([sum(tokens) / (len(tokens) if score == "mean" else 1) for tokens in each])
    raw = torch.tensor(wanted, dtype=torch.float64)
    torch.testing.assert_close(logits_of(model, tokenizer, TEXTS), raw, atol=2e-5, rtol=2e-5)

    # Zhao et al. 2021: probabilities are divided by those of texts that say nothing, and scaled to 1.
    zero_shot.solve(role_of(model, 0), [])
    nothing = [[by_hand(model.reader.lm, tokenizer, f"{t}\nThis is about", w) for w in WORDS] for t in CONTENT_FREE]
    scores = [[sum(one) / (len(one) if score == "mean" else 1) for one in row] for row in nothing]
    prior = torch.tensor(scores, dtype=torch.float64).softmax(-1).mean(0)
    chances = raw.softmax(-1) / prior
    torch.testing.assert_close(
        logits_of(model, tokenizer, TEXTS).softmax(-1), chances / chances.sum(-1, keepdim=True), atol=1e-5, rtol=1e-4
    )


def test_an_encoder_is_asked_at_as_many_masks_as_a_class_has_tokens(tmp_path):
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    lm = BertForMaskedLM(BertConfig(vocab_size=400, num_attention_heads=4, pad_token_id=0, **sizes)).eval()
    lm.save_pretrained(tmp_path)
    tokenizer = make_tokenizer(template=None)
    tokenizer.add_special_tokens({"mask_token": "<|endoftext|>"})
    tokenizer.save_pretrained(tmp_path)
    template = {"template": "{text} It is {label}, they say.", "texts": {"bow": "about a bow"}, "calibration": "none"}
    _, model, tokenizer = classifier(tmp_path, {"zero_shot": template})
    assert model.reader.masked
    wanted = []
    for text in TEXTS:
        row = []
        for words in ("new string", "about a bow", "a broken bridge"):
            tokens = plain(tokenizer, f"It is {words}")[len(plain(tokenizer, "It is")) :]
            left = plain(tokenizer, f"{text} It is")
            ids = [*left, *[tokenizer.mask_token_id] * len(tokens), *plain(tokenizer, ", they say.")]
            begin = tokenizer("a")["input_ids"][: -len(plain(tokenizer, "a"))]
            with torch.no_grad():
                logps = lm(input_ids=torch.tensor([[*begin, *ids]])).logits[0].log_softmax(-1)
            places = range(len(begin) + len(left), len(begin) + len(left) + len(tokens))
            row.append(sum(float(logps[at, token]) for at, token in zip(places, tokens, strict=True)) / len(tokens))
        wanted.append(row)
    found = logits_of(model, tokenizer, TEXTS)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), atol=2e-5, rtol=2e-5)


def test_the_nearest_rows_come_before_the_text_and_the_nearest_comes_last():
    bank = Bank()
    bank.put(
        ["far", "near", "same", "nearer"], [0, 1, 2, 0], torch.tensor([[0.0, 1], [0.8, 0.6], [1, 0], [0.96, 0.28]])
    )
    assert bank.nearest(["same", "other"], torch.tensor([[1.0, 0], [0.0, 1]]), 2) == [[1, 3], [1, 0]]
    assert bank.nearest(["same"], torch.tensor([[1.0, 0]]), 9) == [[0, 1, 3]]


def test_examples_are_those_of_the_bank_and_the_farthest_go_where_there_is_no_room(llama_folder):
    """The prompt is the examples' filled templates and the text's, by the means of the model's own states."""
    adaptation, model, tokenizer = classifier(
        llama_folder, {"in_context": {"examples": 2, "template": "{text} = {label}"}}
    )
    model.remember(["a row", "The violin is out.", "another violin"], [1, 0, 2])
    reader = model.reader
    assert adaptation.groups(model)[0].parameters[0][1] is reader.bank.vectors
    near = reader.vectors([TEXTS[0]]) @ reader.bank.vectors.T
    first, second = near[0].argsort(descending=True)[:2].tolist()
    shown = [f"{reader.bank.texts[row]} = {WORDS[reader.bank.classes[row]]}" for row in (second, first)]
    prompt = "\n\n".join([*shown, f"{TEXTS[0]} ="])
    wanted = [by_hand(reader.lm, tokenizer, prompt, words) for words in WORDS]
    found = logits_of(model, tokenizer, TEXTS[:1])[0]
    torch.testing.assert_close(
        found, torch.tensor([sum(one) / len(one) for one in wanted], dtype=torch.float64), atol=2e-5, rtol=2e-5
    )
    whole = reader._fitted(TEXTS[0], shown, 10_000)
    fewer = reader._fitted(TEXTS[0], shown, len(whole) - 1)
    assert tokenizer.decode(fewer, skip_special_tokens=True).strip() == "\n\n".join([shown[1], f"{TEXTS[0]} ="])
    least = reader._fitted(TEXTS[0], shown, 8)
    assert len(least) <= 8
    assert tokenizer.decode(least, skip_special_tokens=True).strip().endswith("=")
    with pytest.raises(ModelError, match="the prompt alone has more"):
        reader._fitted(TEXTS[0], [], 1)


def test_a_text_that_says_nothing_may_leave_the_prompt_without_a_token(llama_folder):
    """Its tokenizer begins texts with no token: a class is then what begins a text."""
    zero_shot, model, tokenizer = classifier(llama_folder, {"zero_shot": {"template": "{text} {label}"}})
    zero_shot.solve(role_of(model, 0), [])
    assert bool(model.bias.isfinite().all())
    model.bias.data.zero_()
    ids = plain(tokenizer, " bow")
    with torch.no_grad():
        logps = model.reader.lm(input_ids=torch.tensor([[tokenizer.eos_token_id, *ids]])).logits[0].log_softmax(-1)
    wanted = sum(float(logps[at, token]) for at, token in enumerate(ids)) / len(ids)
    assert float(model.reader.scores([""])[0, 1]) == pytest.approx(wanted, abs=2e-5)


@pytest.mark.parametrize("by", [None, "itself"])
def test_a_model_that_is_asked_first_in_inference_mode_answers(llama_folder, monkeypatch, by):
    """As luthier generate asks it, in a process that has not seen its kind of layers."""
    monkeypatch.setattr(fused, "_norms", {})
    encoder = {} if by is None else {"by": str(llama_folder)}
    _, model, tokenizer = classifier(llama_folder, {"in_context": {"examples": 1, **encoder}})
    model.reader.bank.put(["a row"], [1], torch.ones(1, 32))
    with torch.inference_mode():
        first = logits_of(model, tokenizer, TEXTS)
    torch.testing.assert_close(first.clone(), logits_of(model, tokenizer, TEXTS))


def test_what_has_no_words_or_no_single_class_is_refused(bert_folder, llama_folder):
    with pytest.raises(ModelError, match="no trained output layer over words"):
        classifier(bert_folder, "zero_shot")
    zero_shot: Any = build("adaptations", "zero_shot")
    with pytest.raises(ModelError, match="names no class of a text"):
        zero_shot.apply(load_model(str(llama_folder), "causal_lm").model)
    with pytest.raises(ModelError, match="has no output layer over words"):
        zero_shot.apply(load_model(str(bert_folder), "sequence_classification", labels=["a", "b"]).model)
    with pytest.raises(ModelError, match="the class 'bov', which") as caught:
        classifier(llama_folder, {"zero_shot": {"texts": {"bov": "a bow"}}})
    assert caught.value.problems[0].remedy == "did you mean 'bow'?"
    with pytest.raises(RecipeError):
        build("adaptations", {"zero_shot": {"texts": {"bow": " "}}})
    for wrong, told in (("{text}", "one {text} and one {label}"), ("{label} {text}", "comes before")):
        with pytest.raises(RecipeError, match=told):
            build("adaptations", {"zero_shot": {"template": wrong}})


def test_a_recipe_says_what_nothing_reads(llama_folder):
    objective = {"classify": {"label_smoothing": 0.1}}
    with pytest.raises(RecipeError) as caught:
        Recipe.of(class_recipe(llama_folder, Path("rows.jsonl"), adaptation="zero_shot", objective=objective))
    found = " ".join(problem.found for problem in caught.value.problems)
    assert "epochs is read by nothing: zero_shot trains nothing" in found
    assert "label_smoothing is read by nothing" in found


@pytest.mark.parametrize("name", ["zero_shot", "in_context"])
def test_a_run_is_measured_exported_and_asked(llama_folder, tmp_path, name):
    from luthier.cli.main import main
    from luthier.cli.talk import classify, is_classifier

    data = write_jsonl(tmp_path / "rows.jsonl", label_records(24))
    recipe = class_recipe(llama_folder, data, adaptation=name, checks=["classification", "parity"])
    del recipe["phases"][0]["epochs"]
    recipe["data"] |= {"validation": None}
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(recipe))
    with suppress(SystemExit):
        main(["run", str(file), "--out", str(tmp_path / "run")])
    run = Run.of(tmp_path / "run")
    assert 0 <= run.value("classification.accuracy") <= 1
    assert run.value("parity.max_difference", "reloaded") < 1e-5
    assert is_classifier(run.folder)
    found = classify(run.folder, "item 3 is good indeed")
    assert {label for label, _ in found} == {"good", "bad", "odd"}
    assert sum(chance for _, chance in found) == pytest.approx(1)
    examples = run.model / "adapter" / "examples.json"
    assert examples.is_file() == (name == "in_context")
    if name == "in_context":
        kept = json.loads(examples.read_text(encoding="utf-8"))["examples"]
        assert kept
        assert all(row["text"].startswith("item ") for row in kept)


def test_another_encoder_of_the_same_name_finds_the_examples_anew(llama_folder, bert_folder, tmp_path):
    """What is near is told by its vectors; one that is not there is missed before the data are prepared."""
    shutil.copytree(bert_folder, tmp_path / "encoder")
    data = write_jsonl(tmp_path / "rows.jsonl", label_records(24))
    adaptation = {"in_context": {"by": str(tmp_path / "encoder"), "examples": 2}}
    recipe = class_recipe(llama_folder, data, adaptation=adaptation)
    del recipe["phases"][0]["epochs"]
    recipe["data"] |= {"validation": None}
    vectors = []
    for seed in (0, 1):
        make_bert(seed=seed).save_pretrained(tmp_path / "encoder")
        done = luthier.run(recipe, out=tmp_path / "run")
        vectors.append((done.model / "adapter" / "trained.safetensors").read_bytes())
    assert vectors[0] != vectors[1]
    shutil.rmtree(tmp_path / "encoder")
    with pytest.raises(ModelError, match="there is no such folder"):
        luthier.run(recipe, out=tmp_path / "other")
    assert not list((tmp_path / "other").rglob("train.*"))
