"""An encoder-decoder from the data file to the report: it learns, is merged, opens in transformers, and answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_runs import THINGS, lm_recipe, write_jsonl
from tiny import make_t5, make_tokenizer
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import luthier
from luthier.cli.main import main
from luthier.core.errors import ModelError
from luthier.core.evidence import Finding
from luthier.plan.plan import plan


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """Exchanges whose answer is the thing that is asked for; every thing is asked for in many ways."""
    rows = [
        {"prompt": f"Number {number}: the {THINGS[number % 8]}?", "response": THINGS[number % 8]}
        for number in range(96)
    ]
    return write_jsonl(tmp_path / "asked.jsonl", rows)


def of(found: list[Finding], metric: str, subject: str) -> Finding:
    return next(one for one in found if (one.metric, one.subject) == (metric, subject))


def test_it_learns_to_copy_and_opens_in_transformers(
    t5_folder: Path, said: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = lm_recipe(
        t5_folder,
        said,
        objective="seq2seq",
        adaptation="full",
        optimizer={"adamw": {"lr": 2e-2}},
        epochs=12,
        checks=["perplexity", "text_match", "parity"],
        gates=["text_match.exact >= base + 0.5"],
        decoding={"max_new_tokens": 12},
    )
    run = luthier.run(recipe, out=tmp_path / "run")
    found = list(run.findings)
    assert of(found, "exact", "base").value == 0.0
    assert of(found, "exact", "tuned").value > 0.9
    assert of(found, "perplexity", "tuned").value < 1.3
    assert of(found, "max_difference", "reloaded").value < 1e-5
    assert run.passed

    folder = tmp_path / "run/model"
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    asked = tokenizer("Number 77: the cello?<|im_end|>", return_tensors="pt", return_token_type_ids=False)
    theirs = tokenizer.decode(model.generate(**asked)[0], skip_special_tokens=True)
    capsys.readouterr()
    main(["generate", str(tmp_path / "run"), "Number 77: the cello?"])
    assert capsys.readouterr().out.strip() == theirs == "cello"

    with pytest.raises(SystemExit) as end:
        main(["chat", str(tmp_path / "run")])
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert "holds no conversation" in told
    assert "luthier generate" in told
    card = (tmp_path / "run/README.md").read_text()
    assert "text2text-generation" in card
    assert "AutoModelForSeq2SeqLM" in card


def test_an_adapter_is_saved_in_pefts_format_and_folded_in(t5_folder: Path, said: Path, tmp_path: Path) -> None:
    from peft import AutoPeftModelForSeq2SeqLM

    recipe = lm_recipe(t5_folder, said, objective="seq2seq", steps=3, checks=["parity"])
    found = plan(recipe)
    (planned,) = found.phases
    assert found.stop == ("<|im_end|>",)
    assert 0 < planned.splits["train"].supervised < planned.splits["train"].tokens / 2
    assert planned.room.memory.activations > 0
    run = luthier.run(recipe, out=tmp_path / "run")
    assert of(list(run.findings), "max_difference", "merged").value < 1e-5
    assert of(list(run.findings), "max_difference", "reloaded").value < 1e-5
    result = tmp_path / "run/phases/1-sft/result"
    assert type(AutoPeftModelForSeq2SeqLM.from_pretrained(result)).__name__ == "PeftModelForSeq2SeqLM"
    main(["merge", str(tmp_path / "run"), "--out", str(tmp_path / "merged")])
    ours, theirs = (AutoModelForSeq2SeqLM.from_pretrained(tmp_path / name) for name in ("run/model", "merged"))
    for name, weight in ours.state_dict().items():
        torch.testing.assert_close(theirs.state_dict()[name], weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("objective", "model", "says"),
    [
        ("causal_lm", "t5", "'t5' is an encoder-decoder"),
        ("seq2seq", "llama", "'llama' is no encoder-decoder"),
    ],
)
def test_a_model_of_another_kind_is_refused_before_anything_is_prepared(
    objective: str, model: str, says: str, t5_folder: Path, llama_folder: Path, said: Path, tmp_path: Path
) -> None:
    folder = {"t5": t5_folder, "llama": llama_folder}[model]
    with pytest.raises(ModelError, match=says) as caught:
        luthier.run(lm_recipe(folder, said, objective=objective), out=tmp_path / "run")
    assert "the objective" in (caught.value.problems[0].remedy or "")
    assert not list((tmp_path / "run").rglob("train.*"))


def test_a_model_of_many_languages_is_refused(said: Path, tmp_path: Path) -> None:
    make_t5().save_pretrained(tmp_path / "many")
    make_tokenizer(template=None).save_pretrained(tmp_path / "many")
    file = tmp_path / "many/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "m2m_100"}))
    with pytest.raises(ModelError, match="between many languages"):
        luthier.run(lm_recipe(tmp_path / "many", said, objective="seq2seq"), out=tmp_path / "run")
