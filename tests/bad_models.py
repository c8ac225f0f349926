"""Models that are damaged, foreign or of another kind, and what the answer to each must say."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

Change = Callable[[Path], object]


@dataclass(frozen=True)
class Bad:
    """What is done to the folder `m`, a copy of a tiny model, and what the answer must say."""

    name: str
    change: Change
    says: tuple[str, ...]
    kind: str = "llama"
    """The model that `m` is a copy of: llama (continues conversations), bert (classifies), or adapter (of llama)."""
    train: str = "chat.jsonl"


# ---- what is done to a folder ----------------------------------------------------------------------------------------


def settings(file: str, **changes: Any) -> Change:
    """Sets keys of a JSON file; None takes a key out."""

    def change(folder: Path) -> None:
        value = json.loads((folder / file).read_text(encoding="utf-8")) | changes
        text = json.dumps({key: item for key, item in value.items() if item is not None})
        (folder / file).write_text(text, encoding="utf-8")

    return change


config = partial(settings, "config.json")


def content(file: str, text: str | bytes) -> Change:
    return lambda folder: (folder / file).write_bytes(text if isinstance(text, bytes) else text.encode())


def without(*patterns: str) -> Change:
    return lambda folder: [file.unlink() for pattern in patterns for file in folder.glob(pattern)]


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def weights(change: Callable[[dict[str, Any]], object], file: str = "model.safetensors") -> Change:
    """Changes the tensors of a file, by name."""

    def rewrite(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = {name: tensor.clone() for name, tensor in load_file(folder / file).items()}
        change(tensors)
        save_file(tensors, folder / file, metadata={"format": "pt"})

    return rewrite


def value(name: str, number: float) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors[name].view(-1)[3].fill_(number)


def header(tensors: object, body: bytes = b"") -> Change:
    """Weights whose header says what is handed in."""
    text = json.dumps(tensors).encode()
    return content("model.safetensors", struct.pack("<Q", len(text)) + text + body)


def tensor(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def index(listing: object, **more: object) -> Change:
    """An index in the place of the single file, which becomes the shard s.safetensors."""

    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "s.safetensors")
        text = json.dumps({"weight_map": listing} | more)
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")

    return change


def tokenizer_of(size: int) -> Change:
    def change(folder: Path) -> None:
        from tiny import make_tokenizer

        make_tokenizer(size=size).save_pretrained(folder)

    return change


def template(text: str) -> Change:
    return content("chat_template.jinja", text)


def only(file: str, text: bytes) -> Change:
    """A folder that holds nothing but one file."""
    return both(without("*"), content(file, text))


def linked(file: str) -> Change:
    """The file becomes a link to itself."""
    return both(without(file), lambda folder: (folder / file).symlink_to(file))


def gone(folder: Path) -> None:
    """The folder becomes a link to itself."""
    shutil.rmtree(folder)
    folder.symlink_to(folder.name)


# ---- the kinds -------------------------------------------------------------------------------------------------------

TORN = ("tales.yaml:2: model: 'm/model.safetensors'", "torn, or no safetensors", "copy or download")
SETTINGS = ("tales.yaml:2: model: 'm/config.json'",)
TOKENIZER = "tales.yaml:2: model: 'm/tokenizer"

EARLY = (
    Bad(
        "pickle for weights",
        both(without("model.safetensors"), content("pytorch_model.bin", b"\x80\x04.")),
        ("tales.yaml:2: model: 'm'", "pytorch_model.bin", "can run code", "save_pretrained"),
    ),
    Bad("weights cut off", lambda folder: _cut(folder / "model.safetensors"), TORN),
    Bad("weights of no bytes", content("model.safetensors", b""), TORN),
    Bad("weights with a tail", lambda folder: _append(folder / "model.safetensors"), TORN),
    Bad("header of 100 GB", content("model.safetensors", struct.pack("<Q", 100 * 2**30) + b"{}"), TORN),
    Bad("header that is a list", header([1]), TORN),
    Bad("tensor beyond the file", header({"a": tensor("F32", [4], 0, 16)}), TORN),
    Bad(
        "tensors that overlap",
        header({"a": tensor("F32", [4], 0, 16), "b": tensor("F32", [4], 8, 24)}, bytes(24)),
        TORN,
    ),
    Bad("shape that lies", header({"a": tensor("F32", [400], 0, 16)}, bytes(16)), TORN),
    Bad("type that is none", header({"a": tensor("X9", [4], 0, 16)}, bytes(16)), TORN),
    Bad(
        "Git LFS pointer",
        content("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        (TORN[0], "pointer of Git LFS", "git lfs pull"),
    ),
    Bad(
        "weights of 8 bits",
        header({"a.weight": tensor("I8", [4], 0, 4)}, bytes(4)),
        (TORN[0], "stored as I8", "quantized"),
    ),
    Bad("no weights", without("model.safetensors"), ("model: 'm'", "holds no weights", "model.safetensors")),
    Bad("absent shard", index({"a": "t.safetensors"}), ("model: 'm'", "t.safetensors", "every file that", "again")),
    Bad("shard outside", index({"a": "../llama/model.safetensors"}), ("model: 'm'", "../llama", "every file that")),
    Bad("index of nothing", index(["s.safetensors"]), ("index.json'", "names no files", "weight_map")),
    Bad("index of other weights", index({"a": "s.safetensors"}, metadata={}), ("index.json'", "in none of its files")),
    Bad("index without metadata", index({"model.norm.weight": "s.safetensors"}), ("index.json'", "no metadata")),
    Bad("link to itself", linked("model.safetensors"), ("model: 'm'", "holds no weights")),
    Bad("folder that links to itself", gone, ("model: 'm'", "leads nowhere", "paths are relative to")),
    Bad("no configuration", without("config.json"), ("model: 'm'", "holds no model", "config.json")),
    Bad("broken configuration", content("config.json", "{"), (*SETTINGS, "cannot be read", "copy the folder")),
    Bad("configuration of bytes", content("config.json", b"\xff\xfe"), (*SETTINGS, "cannot be read", "UTF-8")),
    Bad("configuration of a list", content("config.json", "[]"), (*SETTINGS, "no JSON object")),
    Bad("no model type", config(model_type=None), (*SETTINGS, "names no model_type", "llama")),
    Bad(
        "code of its own",
        config(auto_map={"AutoModelForCausalLM": "evil.Model"}),
        (*SETTINGS, "brings code of its own", "never run", "transformers' own format"),
    ),
    Bad("quantized", config(quantization_config={"quant_method": "gptq"}), (*SETTINGS, "quantized", "bfloat16")),
    Bad("dtype of 4 bits", config(dtype="int4"), (*SETTINGS, "'int4'", "bfloat16")),
    Bad("no tokenizer", without("tokenizer*"), ("model: 'm'", "holds no tokenizer", "copy the tokenizer's files")),
    Bad("broken tokenizer", content("tokenizer.json", "{"), (TOKENIZER, "cannot be read")),
    Bad("tokenizer of nothing", content("tokenizer.json", '{"model": {}}'), (TOKENIZER, "holds no tokenizer")),
    Bad("broken tokenizer settings", content("tokenizer_config.json", "["), (TOKENIZER, "cannot be read")),
    Bad("larger vocabulary", tokenizer_of(420), (TOKENIZER, "ids up to 419", "400 rows", "belongs to this model")),
    Bad("fewer rows than tokens", config(vocab_size=300), (TOKENIZER, "ids up to 399", "300 rows")),
    Bad("broken generation settings", content("generation_config.json", "{"), ("generation_config.json'", "cannot be")),
    Bad("GGUF", only("model.gguf", b"GGUF"), ("model: 'm'", "model.gguf", "not for training", "made from")),
    Bad("ONNX", both(without("*.safetensors"), content("model.onnx", b"\x08")), ("model: 'm'", "not for training")),
    Bad(
        "adapter of nothing",
        settings("adapter_config.json", base_model_name_or_path=None),
        ("adapter_config.json'", "which model it belongs to", "base_model_name_or_path"),
        "adapter",
    ),
    Bad(
        "adapter of what is gone",
        settings("adapter_config.json", base_model_name_or_path="./gone"),
        ("'./gone': there is no such folder", "the base that m/adapter_config.json names"),
        "adapter",
    ),
    Bad(
        "adapter of itself",
        settings("adapter_config.json", base_model_name_or_path="./m"),
        ("adapter_config.json'", "names itself", "hub id or folder"),
        "adapter",
    ),
    Bad(
        "pickle for an adapter",
        both(without("*.safetensors"), content("adapter_model.bin", b"\x80\x04.")),
        ("adapter_model.bin", "can run code"),
        "adapter",
    ),
    Bad(
        "adapter cut off",
        lambda folder: _cut(folder / "adapter_model.safetensors"),
        ("adapter_model", "torn"),
        "adapter",
    ),
    Bad("adapter with a model", content("config.json", "{}"), ("not clear which", "move"), "adapter"),
)
"""Told from the files, before torch: nothing is written."""

LATE = (
    Bad("one NaN", weights(value("model.norm.weight", float("nan"))), ("m:", "not finite: model.norm.weight", "again")),
    Bad(
        "one infinity",
        weights(value("model.embed_tokens.weight", float("inf"))),
        ("m:", "not finite: model.embed_tokens.weight"),
    ),
    Bad(
        "a weight missing", weights(lambda all_: all_.pop("model.norm.weight")), ("m:", "1 missing: model.norm.weight")
    ),
    Bad(
        "a weight too many",
        weights(lambda all_: all_.update({"model.extra.weight": all_["model.norm.weight"].clone()})),
        ("m:", "1 not used by the model: model.extra.weight"),
    ),
    Bad("another width", config(hidden_size=64), ("m/model.safetensors:", "is [400, 32], not [400, 64]", "one model")),
    Bad("another depth", config(num_hidden_layers=3), ("m:", "9 missing", "copy the folder again")),
    Bad("heads that do not divide", config(num_attention_heads=5), ("m/config.json:", "not a multiple", "upgrade")),
    Bad("unknown type", config(model_type="luth"), ("m/config.json:", "`luth`", "upgrade transformers")),
    Bad("width in words", config(hidden_size="wide"), ("m/config.json:", "'hidden_size' expected int")),
    Bad("unknown activation", config(hidden_act="luth"), ("m/config.json:", "makes no model", "'luth'")),
    Bad(
        "tokenizer with code",
        settings("tokenizer_config.json", tokenizer_class="Luth", auto_map={"AutoTokenizer": ["evil.T", None]}),
        ("m/tokenizer_config.json:", "code of its own", "never run"),
    ),
    Bad(
        "end token without a row",
        settings("tokenizer_config.json", eos_token="<luth>"),
        ("m:", "ids up to 400", "400 rows"),
    ),
    Bad("no chat template", without("*.jinja"), ("chat_template:", "has no chat template", "chat_template: plain")),
    Bad("broken template", template("{% for m in messages %}"), ("chat template, line 1:", "cannot be read", "mend")),
    Bad("template that refuses", template("{{ raise_exception('only one turn') }}"), ("train data:", "only one turn")),
    Bad("template without an end", template("{{ messages[0].content }}"), ("chat template:", "without a stop token")),
    Bad(
        "template that reaches out",
        template("{{ ''.__class__.__mro__ }}"),
        ("phase 'train', train data:", "unsafe", "chat_template"),
    ),
    Bad("encoder for conversations", lambda folder: None, ("m:", "is an encoder", "classify"), "bert"),
    Bad("encoder-decoder", config(is_encoder_decoder=True), ("m:", "is an encoder-decoder", "the objective seq2seq")),
    Bad(
        "positions of another model",
        config(max_position_embeddings=64),
        ("m/model.safetensors:", "position_embeddings.weight is [128, 32], not [64, 32]"),
        "bert",
        "labels.jsonl",
    ),
    Bad("classes in words", config(id2label={"one": "x"}), ("m/config.json:", "'one'"), "bert", "labels.jsonl"),
    Bad(
        "adapter of a wider model",
        settings("adapter_config.json", r=3),
        ("m:", "does not fit its base", "[2, 32]", "base_model_name_or_path"),
        "adapter",
    ),
    Bad(
        "adapter of no kind",
        settings("adapter_config.json", peft_type="LUTH"),
        ("m/adapter_config.json:", "'LUTH'"),
        "adapter",
    ),
    Bad("adapter of other layers", settings("adapter_config.json", target_modules=["luth"]), ("m:", "luth"), "adapter"),
    Bad(
        "adapter with a key missing",
        weights(lambda all_: all_.pop(sorted(all_)[0]), "adapter_model.safetensors"),
        ("m:", "1 missing", "lora_A"),
        "adapter",
    ),
    Bad(
        "NaN in an adapter",
        weights(lambda all_: all_[sorted(all_)[0]].fill_(float("nan")), "adapter_model.safetensors"),
        ("m:", "not finite", "lora_A"),
        "adapter",
    ),
)
"""Told by the model itself, or its tokenizer: what is prepared by then is whole."""

NAMES = (
    ("https://huggingface.co/org/name", ("its id, not by its address", "write org/name")),
    ("llama/model.safetensors", ("a model is a folder", "give llama")),
    ('"m\\nx"', ("no such folder",)),
    ('"m\\0x"', ("no such folder",)),
    ("m" * 5000, ("cannot be looked at", "see whether the name is right")),
    ("~nobody-of-this-name/m", ("cannot be looked at",)),
    ('" "', ("no such folder",)),
    ('""', ("holds no model",)),
    ("embedded:nano/../nano", ("ships with luthier", "embedded:nano")),
)
"""What is given as the model's name."""


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _append(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"tail")
