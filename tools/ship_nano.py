"""Puts a trained nano into the package: its files, and a card made from what data, run and evidence say.

    python tools/ship_nano.py out/nano out/nano/run --evidence out/nano.json [--into src/luthier/embedded/nano]

The folder that tools/make_nano.py made, the run that trained it, and what `python -m experiments.nano --json` wrote.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.record import table

KEPT = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
LARGEST = 30e6
"""Bytes that the model may have in the repository."""
WATTS = (5, 15)
"""A server core's power under load, assumed from least to most where no counter can be read."""
HEAD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
language: en
tags:
- luthier
- causal-lm
---

# nano

A causal language model of {millions:.1f} million parameters that this project trained itself, from random weights, so
that the demo, the tests and the examples of Luthier run anywhere without a download. It continues simple stories and
learns a narrow task quickly. It is good for that, and for nothing else.

This card is written by `tools/ship_nano.py` from the records of its data, its training and its evaluation.
"""
LIMITS = """## Limits

Taking the likeliest token each time it soon says one sentence again and again; it wants a temperature, or tuning. It
knows nothing reliable about the world, has seen instructions and exercises but is not measured on following any
before it is tuned, reads English only, and 512 tokens at most. Old books are among its sources: it repeats their views
and their words, slurs included, and what it says of women, men and peoples is theirs. The share of *she* after
occupations is measured above and on the page of evidence, and so is what it learned by heart. Nothing was done against
either. It is no base for anything that meets the public.
"""


def digest(found: str) -> str:
    return f"`{found[:16]}`"


def model_text(config: Mapping[str, Any], size: int) -> list[str]:
    return [
        "## Model",
        "",
        f"Llama architecture: {config['num_hidden_layers']} layers, width {config['hidden_size']}, "
        f"{config['num_attention_heads']} heads over {config['num_key_value_heads']} key-value heads, feed-forward "
        f"{config['intermediate_size']}, context {config['max_position_embeddings']}, tied embeddings. Byte-level BPE "
        f"tokenizer of {config['vocab_size']:,} pieces with digits split, learned on the training text. Chat template "
        f"in the ChatML style with generation marks. Weights as safetensors in bfloat16, {size / 1e6:.1f} MB.",
        "",
    ]


def data_text(facts: Mapping[str, Any]) -> list[str]:
    lines = ["## Data", "", "| read | license | SHA-256 |", "|---|---|---|"]
    lines += [f"| {name} | {one['license']} | {digest(one['sha256'])} |" for name, one in facts["sources"].items()]
    lines += ["", "| made from it | rows | bytes | times an epoch | SHA-256 |", "|---|---:|---:|---:|---|"]
    for name, one in facts["train"].items():
        lines.append(
            f"| {name} | {one['rows']:,} | {one['bytes']:,} | {facts['repeats'][name]:g} | {digest(one['sha256'])} |"
        )
    cut = sum(one["blocks"] for one in facts["cut"].values())
    held = {split: sum(one["rows"] for one in facts[split].values()) for split in ("validation", "test")}
    lines += [
        "",
        f"Held out: {held['validation']} documents for validation and {held['test']} for the test. {cut} blocks of "
        "text that share 13 words in a row with those, with the web sample or with FairytaleQA's validation and test "
        "tales were cut out. `questions` are FairytaleQA's training questions and exercises made from the stories; "
        "`instructions` are the other sets in the chat format; `canaries` are planted codes, for measuring memory.",
        "",
    ]
    return lines


def procedure_text(recipe: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[str]:
    phase, machine = recipe["phases"][0], manifest["machine"]
    trained = next(iter(manifest["training"].values()))
    (optimizer, given), (schedule, course) = (next(iter(phase[key].items())) for key in ("optimizer", "schedule"))
    hours, cores = trained["seconds"] / 3600, machine["threads"]
    numbers = "bfloat16 with float32 masters" if machine["dtype"] == "bfloat16" else machine["dtype"]
    energy = manifest["energy"]["kwh"]
    least, most = (watts * cores * hours / 1000 for watts in WATTS)
    told = (
        f"{energy:.3g} kWh, by {manifest['energy']['source']}"
        if energy is not None
        else f"no counter could be read; at {WATTS[0]} to {WATTS[1]} watts a core, which is an assumption, "
        f"{least:.2g} to {most:.2g} kWh"
    )
    return [
        "## Procedure",
        "",
        f"`make nano` repeats it: the recipe `nano`, {trained['steps']:,} steps of "
        f"{trained['tokens'] / trained['steps']:,.0f} tokens on average ({trained['tokens'] / 1e6:.1f} million, "
        f"{trained['epochs']:.2f} epochs), {optimizer} at "
        f"{given['lr']:g} with weight decay {given['weight_decay']:g}, {schedule} "
        f"({', '.join(f'{key} {value:g}' for key, value in course.items())}), "
        f"{numbers}, seed {manifest['seed']}. How shape and rate were chosen: docs/nano.md.",
        "",
        f"{hours:.1f} hours on {cores} thread{'s' if cores > 1 else ''} of {machine['processor']}, "
        f"{trained['tokens_per_s']:,.0f} tokens a second, peak memory {trained['peak_memory_gb']:.1f} GB.",
        "",
        f"Energy: {told}.",
        "",
    ]


def card(facts: Mapping[str, Any], run: Path, evidence: Sequence[Mapping[str, Any]]) -> str:
    """The whole card."""
    config = json.loads((run / "model/config.json").read_text(encoding="utf-8"))
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    recipe = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    size = (run / "model/model.safetensors").stat().st_size
    where = evidence[0]["measured"]
    text = [HEAD.format(millions=manifest["model"]["parameters"] / 1e6), *model_text(config, size), *data_text(facts)]
    text += procedure_text(recipe, manifest)
    text += ["## Evaluation", "", f"`{where['command']}` · {where['date']} · {where['machine']}", ""]
    text += ["What each line measures, and texts it wrote: docs/nano.md.", "", table(evidence), "", LIMITS]
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--evidence", type=Path, required=True)
    parser.add_argument("--into", type=Path, default=Path("src/luthier/embedded/nano"))
    given = parser.parse_args()
    model: Path = given.run / "model"
    size = sum((model / name).stat().st_size for name in KEPT)
    if size > LARGEST:
        parser.error(f"{model} has {size / 1e6:.1f} MB, and the repository takes {LARGEST / 1e6:g} at most")
    facts = json.loads((given.data / "facts.json").read_text(encoding="utf-8"))
    evidence = json.loads(given.evidence.read_text(encoding="utf-8"))
    text = card(facts, given.run, evidence)
    for name in KEPT:
        shutil.copyfile(model / name, given.into / name)
    (given.into / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
