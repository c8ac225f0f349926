"""An exported folder is whole, plain transformers loads it to the same numbers, and a stop leaves the old one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny import CHATML_MARKED, make_bert, make_llama, make_tokenizer

from luthier.core import files
from luthier.core.errors import MachineError, ModelError
from luthier.models.cast import cast
from luthier.models.export import reload, save_model

IDS = torch.tensor([[5, 17, 200, 31, 8, 90]])


def test_plain_transformers_loads_it(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    model, tokenizer = make_llama(), make_tokenizer()
    files = save_model(model, tokenizer, tmp_path / "model", generation={"max_new_tokens": 64, "temperature": 0.0})
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= {f.name for f in files}
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    torch.testing.assert_close(again(IDS).logits, model(IDS).logits, atol=1e-7, rtol=0)
    assert AutoTokenizer.from_pretrained(tmp_path / "model").chat_template == CHATML_MARKED
    settings = GenerationConfig.from_pretrained(tmp_path / "model")
    assert (settings.max_new_tokens, settings.do_sample, settings.eos_token_id) == (64, False, [2])
    assert torch.equal(reload(tmp_path / "model", "causal_lm").model(IDS).logits, model(IDS).logits)


def test_sampling_settings_are_kept(tmp_path: Path) -> None:
    generation = {"max_new_tokens": 8, "temperature": 0.7, "top_p": 0.9}
    save_model(make_llama(), make_tokenizer(), tmp_path / "model", generation=generation)
    stored = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert (stored["do_sample"], stored["temperature"], stored["top_p"]) == (True, 0.7, 0.9)


def test_bf16_is_written_as_asked_and_the_model_stays(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = make_llama()
    save_model(model, make_tokenizer(), tmp_path / "model", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    assert "lm_head.weight" not in stored  # tied: written once
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    again = reload(tmp_path / "model", "causal_lm", torch.bfloat16).model
    assert torch.equal(again(IDS).logits, cast(make_llama(), torch.bfloat16)(IDS).logits)


def test_a_classifier_comes_back_with_its_classes(tmp_path: Path) -> None:
    model = make_bert()
    model.config.id2label = {0: "cello", 1: "viola", 2: "violin"}
    model.config.label2id = {"cello": 0, "viola": 1, "violin": 2}
    save_model(model, make_tokenizer(template=None), tmp_path / "model")
    loaded = reload(tmp_path / "model", "sequence_classification")
    assert loaded.model.config.id2label[2] == "violin"
    assert torch.equal(loaded.model(IDS).logits, model(IDS).logits)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_model(make_llama(), make_tokenizer(), tmp_path / name, generation={"max_new_tokens": 4})
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_a_stop_while_writing_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    save_model(make_llama(), make_tokenizer(), folder)
    before = (folder / "model.safetensors").read_bytes()

    def torn(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "_sync", torn)
        with pytest.raises(MachineError, match="the disk is full"):
            save_model(make_llama(seed=1), make_tokenizer(), folder)
    assert (folder / "model.safetensors").read_bytes() == before
    save_model(make_llama(seed=1), make_tokenizer(), folder)
    assert (folder / "model.safetensors").read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_an_adapter_must_be_merged_first(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    with pytest.raises(ModelError, match="merge the adaptation first"):
        save_model(get_peft_model(make_llama(), LoraConfig(r=2)), make_tokenizer(), tmp_path / "model")
