"""The runs that the kill campaign stops: every objective, adaptation and dtype, and the data they learn from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["VALIDATE_EVERY", "Configuration", "configurations", "quick_configuration", "write_recipe"]

THINGS = ("violin", "viola", "cello", "bow", "bridge", "peg", "string", "scroll")
FAULTS = ("cracked", "loose", "worn", "silent", "bent")
KINDS = ("repair", "price", "thanks")
ASKED = {
    "repair": "the {thing} is {fault}, can you mend it?",
    "price": "what does work on a {fault} {thing} cost?",
    "thanks": "the {fault} {thing} plays again, well done!",
}
ADAPTATIONS: Mapping[str, Any] = {
    "lora": {"lora": {"rank": 32, "dropout": 0.1}},
    "full": "full",
    "gradual": {"frozen": {"train": "last:3", "gradual": 0.8, "layer_decay": 0.5}},
}
RATES = {"lora": 2e-3, "full": 2e-4, "gradual": 1e-3}
RUINOUS = 30.0
"""A rate that validation gets worse on the way to: early stopping has something to stop."""
STEPS = 10
VALIDATE_EVERY = 2


@dataclass(frozen=True)
class Configuration:
    """One recipe of the campaign, as plain values without its data; stops_early: its watch must end the training."""

    name: str
    recipe: Mapping[str, Any]
    stops_early: bool = False


def configurations() -> list[Configuration]:
    """Objective x adaptation x dtype, early stopping in every other one; then two phases, and two seeds."""
    found = []
    for objective in ("causal_lm", "classify"):
        for place, adaptation in enumerate(ADAPTATIONS):
            for turn, dtype in enumerate(("float32", "bfloat16")):
                # Every pair of factors meets: with and without stopping for each objective, adaptation and dtype.
                stops = (place + turn + (objective == "classify")) % 2 == 1
                found.append(_one(objective, adaptation, dtype, stops))
    return [*found, _two_phases(), _two_seeds()]


def quick_configuration() -> Configuration:
    """The one that is killed by --quick: LoRA in float32."""
    return _one("causal_lm", "lora", "float32", stops=False)


def _one(objective: str, adaptation: str, dtype: str, stops: bool) -> Configuration:
    name = ", ".join([objective, adaptation, dtype, *(["stopping early"] if stops else [])])
    return Configuration(name, _recipe(objective, [_phase(objective, adaptation, stops)], dtype), stops)


def _two_phases() -> Configuration:
    """LoRA on one file, then gradual unfreezing on another, from the folded model."""
    first, second = _phase("causal_lm", "lora", False), _phase("causal_lm", "gradual", False)
    second |= {"name": "second", "data": {"train": "more.jsonl", "validation": 0.1, "steps": ["clean"]}}
    recipe = _recipe("causal_lm", [first, second], "float32")
    return Configuration("two phases: lora, then gradual on data of its own", recipe)


def _two_seeds() -> Configuration:
    recipe = _recipe("causal_lm", [_phase("causal_lm", "lora", False)], "bfloat16")
    return Configuration("two seeds: causal_lm, lora, bfloat16", recipe | {"seed": [1, 2]})


def _phase(objective: str, adaptation: str, stops: bool) -> dict[str, Any]:
    return {
        "name": "first",
        "objective": objective,
        "adaptation": ADAPTATIONS[adaptation],
        "optimizer": {"adamw": {"lr": RUINOUS if stops else RATES[adaptation]}},
        "schedule": {"linear": {"warmup": 0.9}} if stops else "constant",
        "steps": STEPS,
        "per_step": {"rows": 6},
        "max_length": 96,
        "dropout": 0.1,
        "embedding_noise": 5.0,
        # Checkpoints and validations fall on different steps: a resumed run repeats some of either.
        "watch": {"every": VALIDATE_EVERY, "rows": 6, **({"patience": 1} if stops else {})},
        "checkpoints": {"every": 3, "keep": 2},
    }


def _recipe(objective: str, phases: Sequence[Mapping[str, Any]], dtype: str) -> dict[str, Any]:
    language = objective == "causal_lm"
    limited: list[Any] = [{"text_match": {"limit": 2}}, {"perplexity": {"limit": 4}}]
    return {
        "name": "killed",
        "model": "model",
        "data": {
            "train": "chat.jsonl" if language else "labels.jsonl",
            "validation": 0.1,
            "test": 0.05,
            "steps": ["clean", "deduplicate"],
        },
        "phases": list(phases),
        "checks": limited if language else ["classification"],
        "decoding": {"max_new_tokens": 4},
        # A step's rows do not fit into one micro-batch: gradients are accumulated.
        "machine": {"device": "cpu", "dtype": dtype, "micro_tokens": 96},
    }


def _write_model(folder: Path) -> None:
    """A Llama of three layers with random weights and the embedded model's tokenizer: a step takes milliseconds."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from luthier.core.embedded import embedded_nano
    from luthier.models.load import quiet

    tokenizer = AutoTokenizer.from_pretrained(embedded_nano())
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with quiet():
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def write_recipe(one: Configuration, folder: Path) -> Path:
    """Writes model, data and the recipe that names them; gives the recipe's path. The same bytes every time."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_model(folder / "model")
    texts = [_text(number) for number in range(400)]
    chats = [{"messages": _exchange(text, kind, number)} for number, (text, kind) in enumerate(texts)]
    labels = [{"text": text, "label": kind} for text, kind in texts]
    for name, records in {"chat": chats, "labels": labels, "more": chats[::-2]}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    # JSON is YAML; paths are absolute, so that the command may be given from anywhere.
    text = json.dumps(one.recipe)
    for name in ("chat.jsonl", "labels.jsonl", "more.jsonl"):
        text = text.replace(json.dumps(name), json.dumps(str(folder.resolve() / name)))
    text = text.replace('"model": "model"', f'"model": {json.dumps(str(folder.resolve() / "model"))}')
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def _text(number: int) -> tuple[str, str]:
    """A letter and its kind; every tenth repeats an earlier one, every seventh holds what `clean` mends."""
    source = number - 10 if number % 10 == 9 and number > 10 else number
    kind = KINDS[source % 3]
    asked = ASKED[kind].format(thing=THINGS[source % 8], fault=FAULTS[source % 5])
    return f"Letter {source}:{'&nbsp; ' if source % 7 == 0 else ' '}{asked}", kind


def _exchange(text: str, kind: str, number: int) -> list[dict[str, str]]:
    answer = {"repair": "Bring it in.", "price": f"About {20 + number % 50} euros.", "thanks": "Our pleasure."}[kind]
    return [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
