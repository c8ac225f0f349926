"""A tagger and a masked language model from the data file to the report; the one may begin where the other ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_runs import THINGS, lm_recipe
from transformers import AutoModelForMaskedLM, AutoModelForTokenClassification, AutoTokenizer

import luthier
from luthier.core.evidence import Finding


@pytest.fixture
def encoder(bert_folder: Path, tmp_path: Path) -> Path:
    """The tiny encoder, whose tokenizer has a mask token."""
    folder = tmp_path / "encoder"
    folder.mkdir()
    for file in bert_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.mask_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    return folder


def conll(path: Path, count: int = 60) -> Path:
    """Sentences in which every thing is a THING; a new one is two words."""
    lines = []
    for number in range(count):
        thing = THINGS[number % len(THINGS)]
        new = ["new B-THING", f"{thing} I-THING"] if number % 2 else [f"{thing} B-THING"]
        lines += ["The O", *new, "sang O", f"{number} O", ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def of(found: tuple[Finding, ...] | list[Finding], metric: str, subject: str) -> Finding:
    return next(one for one in found if (one.metric, one.subject, one.group) == (metric, subject, None))


def test_words_are_hidden_then_names_are_tagged(encoder: Path, tmp_path: Path) -> None:
    data = conll(tmp_path / "things.conll")
    texts = tmp_path / "texts.jsonl"
    said = [json.dumps({"text": f"The {thing} sang and the moon listened."}) for thing in THINGS * 4]
    texts.write_text("\n".join(said), encoding="utf-8")
    recipe: dict[str, Any] = lm_recipe(encoder, data, checks=["tagging", "parity"])
    tag = recipe["phases"][0] | {
        "name": "tag",
        "objective": {"tag": {"scheme": "bioes"}},
        "adaptation": {"lora": {"rank": 8, "head_scale": 2}},
        "epochs": 8,
        "optimizer": {"adamw": {"lr": 2e-2}},
    }
    masks = recipe["phases"][0] | {
        "name": "masks",
        "objective": "masked_lm",
        "adaptation": "full",
        "data": {"train": str(texts), "validation": 0.2},
        "epochs": 2,
    }
    run = luthier.run(recipe | {"phases": [masks, tag]}, out=tmp_path / "run")
    assert of(run.findings, "f1", "tuned").value > 0.8
    assert of(run.findings, "f1", "change").low is not None
    assert of(run.findings, "max_difference", "reloaded").value < 1e-4
    facts = json.loads((tmp_path / "run/phases/2-tag/facts.json").read_text())
    assert facts["classes"] == ["O", "B-THING", "I-THING", "E-THING", "S-THING"]
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "run/model")
    assert list(model.config.id2label.values()) == facts["classes"]
    card = (tmp_path / "run/README.md").read_text()
    assert "token-classification" in card
    assert "(none)" not in card


def test_a_masked_language_model_comes_out_with_its_head(encoder: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.jsonl"
    said = [json.dumps({"text": f"The {thing} number {n} sang to the moon."}) for n, thing in enumerate(THINGS * 5)]
    texts.write_text("\n".join(said), encoding="utf-8")
    changes: dict[str, Any] = {"objective": "masked_lm", "adaptation": "full", "checks": ["perplexity", "parity"]}
    run = luthier.run(lm_recipe(encoder, texts, **changes), out=tmp_path / "run")
    base, tuned = (of(run.findings, "perplexity", subject) for subject in ("base", "tuned"))
    assert tuned.value < base.value
    assert "only the head trained" in (base.note or "")
    assert not any(one.metric == "bits_per_byte" for one in run.findings)
    assert of(run.findings, "max_difference", "reloaded").value < 1e-4
    _, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "run/model", output_loading_info=True)
    assert not info["missing_keys"]
    assert "fill-mask" in (tmp_path / "run/README.md").read_text()
