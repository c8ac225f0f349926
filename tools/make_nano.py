"""Makes what `embedded:nano` is trained from: tokenizer, fresh weights, the mixture, held-out texts, and a recipe.

    python tools/make_nano.py OUT [--layers 8 --width 256 ...]      needs LUTHIER_DATA, the outside data's folder

OUT/start      a byte-level BPE tokenizer learned on the training text, and a Llama with random weights, seed 0
OUT/train      stories, children's books, books, questions and instructions: one file each, the sources of the mixture
OUT/validation a few documents of each, for the curve; OUT/test: whole documents that nothing else is made from
OUT/nano.yaml  the recipe: `nano` with these folders; `luthier run OUT/nano.yaml --out RUN` trains it
OUT/facts.json what went in: rows, bytes, digests, what was left out because a test text has it too

Text that shares 13 words in a row with a held-out document, the web sample or FairytaleQA's validation and test tales
is cut out of the training text before anything is made from it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import os
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from luthier.functional.minhash import shingles

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SEED = 20_26
SPECIAL = ["<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PIECES = 4096
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m['content'] + '<|im_end|>' + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
REPEATS = {"stories": 4.0, "children": 2.0, "books": 0.5, "questions": 1.0, "instructions": 1.0, "canaries": 1.0}
"""How often a row of each source comes in an epoch."""
HELD_OUT = {"stories": (20, 40), "children": (3, 5), "books": (3, 5)}
"""Documents for validation and for the test."""
VALIDATED, TESTED = 20_000, 100_000
"""Characters of each held-out document that are measured."""
SHARED = 13
BLOCK = 2_000
Row = dict[str, Any]
SOURCES = {
    "text/stories.jsonl.xz": "CC BY, Apache-2.0 or CDLA-Sharing-1.0, by row",
    "text/children.jsonl.xz": "public domain (US)",
    "text/books.jsonl.xz": "public domain (US)",
    "tasks/fairytaleqa/train.jsonl": "Apache-2.0",
    "instructions/gpteacher/roleplay-simple-deduped-roleplay-instruct.json": "MIT",
    "instructions/llama-factory-demos/alpaca_en_demo.json": "Apache-2.0",
    "tasks/clinc150/data_full.json": "CC BY 3.0",
    "tasks/sentence-polarity.jsonl": "CC BY 4.0",
    "tasks/subjectivity.jsonl": "CC BY 4.0",
}
"""What is read for training, with its licenses as the collection names them."""


# ---- documents -------------------------------------------------------------------------------------------------------


def documents(data: Path, name: str) -> list[Row]:
    """The documents of a collection, in its order."""
    with lzma.open(data / f"text/{name}.jsonl.xz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def held_out(rows: Sequence[Row], count: int, draw: random.Random) -> list[int]:
    """Places of documents that are set aside; tales with questions in the training data are not, nor collections."""
    able = [at for at, row in enumerate(rows) if not row.get("source", "").startswith(("fairytaleqa", "tinystories"))]
    return draw.sample(able, count)


def jsonl(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def measured_elsewhere(data: Path) -> list[str]:
    """Texts that evaluations use: tales of FairytaleQA's validation and test, and the web sample."""
    tales = [row["context"] for name in ("val", "test") for row in jsonl(data / f"tasks/fairytaleqa/{name}.jsonl")]
    web = [row["text"] for row in jsonl(data / "text/web-sample/c4_demo.jsonl")]
    wiki = (data / "text/web-sample/wiki_demo.txt").read_text(encoding="utf-8")
    return [*dict.fromkeys(tales), *web, wiki]


def blocks(text: str) -> list[str]:
    """Paragraphs laid together to some two thousand characters."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        if found and len(found[-1]) + len(paragraph) < BLOCK:
            found[-1] += "\n\n" + paragraph
        else:
            found.append(paragraph)
    return found


def without(text: str, known: np.ndarray) -> tuple[list[str], int]:
    """The text in pieces, without the blocks that share 13 words in a row with what is known (sorted hashes); how many
    those were.
    """
    every = blocks(text)
    sets = shingles(every, SHARED)
    hit = known[np.minimum(np.searchsorted(known, sets.hashes), len(known) - 1)] == sets.hashes
    owners = np.repeat(np.arange(len(every)), np.diff(sets.starts))
    # A block shorter than 13 words is one shingle: equal to a whole short text only.
    bad = np.zeros(len(every), bool)
    bad[owners[hit]] = True
    pieces: list[list[str]] = [[]]
    for block, dropped in zip(every, bad.tolist(), strict=True):
        if dropped:
            pieces.append([])
        else:
            pieces[-1].append(block)
    return ["\n\n".join(piece) for piece in pieces if piece], int(bad.sum())


# ---- questions and instructions --------------------------------------------------------------------------------------


def asked(user: str, assistant: str) -> Row:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]}


def fairytale_questions(data: Path) -> Iterator[Row]:
    """The training split's questions, each with its first answer; those of a passage follow one another after it."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in jsonl(data / "tasks/fairytaleqa/train.jsonl"):
        found.setdefault(row["context"], []).append((row["question"], row["answers"][0]))
    for context, pairs in found.items():
        # Four at most: a passage of usual length and its questions fit nano's context.
        for at in range(0, len(pairs), 4):
            yield asked_about(context, pairs[at : at + 4])


def asked_about(passage: str, pairs: Sequence[tuple[str, str]]) -> Row:
    """A conversation: the passage before the first question."""
    turns = [turn for question, answer in pairs for turn in asked(question, answer)["messages"]]
    turns[0]["content"] = f"{passage}\n\n{turns[0]['content']}"
    return {"messages": turns}


def reading(texts: Sequence[str], count: int, draw: random.Random) -> Iterator[Row]:
    """Passages with four exercises each whose answers stand in them: reading to find, before any question is asked."""
    made, cut = 0, [blocks(text) for text in texts]
    while made < count:
        passage = draw.choice(draw.choice(cut))[:1200].rpartition(".")[0] + "."
        sentences = [s for s in re.split(r"(?<=[.!?])\s+", passage) if 8 <= len(s.split()) <= 30]
        if len(sentences) < 4:
            continue
        pairs = [(gap if draw.random() < 0.5 else lookup)(s, draw) for s in draw.sample(sentences, 3)]
        speakers = SAID.findall(passage)
        if speakers:
            words, who = draw.choice(speakers)
            pairs.append(draw.choice([(f'Who said "{words}"?', who), (f"What did {who} say?", words)]))
            draw.shuffle(pairs)
        else:
            pairs.append(lookup(sentences[0], draw))
        yield asked_about(passage, pairs)
        made += 1


SAID = re.compile(
    r"[\"“]([^\"”“]{8,160}[^\"”“,.!?])[,.!?]?[\"”] (?:said|cried|asked|answered|replied|exclaimed) "
    r"((?:the|The|his|her|old|little|poor|young|Mr\.|Mrs\.|Miss|Aunt|Uncle|King|Queen|Prince)(?: [A-Za-z]+){1,2}"
    r"|[A-Z][a-z]+)(?=[,.;])"
)
"""Direct speech and its speaker, where that is a name or a short noun phrase."""


def gap(sentence: str, draw: random.Random) -> tuple[str, str]:
    """The sentence with two to six words left out, and these."""
    words = sentence.split()
    size = draw.randint(2, 6)
    begin = draw.randint(1, len(words) - size)
    left = " ".join([*words[:begin], "___", *words[begin + size :]])
    return f"Fill the gap: {left}", " ".join(words[begin : begin + size]).strip(".,;:!?\"'“”")


def lookup(sentence: str, draw: random.Random) -> tuple[str, str]:
    """Some of the sentence's words, and the sentence."""
    words = sentence.split()
    kept = sorted(draw.sample(range(len(words)), max(3, round(len(words) * draw.uniform(0.25, 0.5)))))
    hints = " ".join(words[at].strip(".,;:!?\"'“”").lower() for at in kept)
    return f"Where does it say: {hints}?", sentence


def instructions(data: Path) -> Iterator[Row]:
    """GPTeacher's role play, the Alpaca sample, intents of CLINC150 (its training split), and two tasks of films."""
    found = json.loads(
        (data / "instructions/gpteacher/roleplay-simple-deduped-roleplay-instruct.json").read_text(encoding="utf-8")
    )
    for row in found:
        yield asked("\n".join(filter(None, (row["instruction"], row["input"]))), row["response"])
    for row in json.loads((data / "instructions/llama-factory-demos/alpaca_en_demo.json").read_text(encoding="utf-8")):
        yield asked("\n".join(filter(None, (row["instruction"], row["input"]))), row["output"])
    for text, label in json.loads((data / "tasks/clinc150/data_full.json").read_text(encoding="utf-8"))["train"]:
        yield asked(f"{text}\nWhat is wanted?", label.replace("_", " "))
    for name, question in (
        ("sentence-polarity", "Is this positive or negative?"),
        ("subjectivity", "Is this objective or subjective?"),
    ):
        for row in jsonl(data / f"tasks/{name}.jsonl"):
            yield asked(f"{row['text']}\n{question}", row["label"])


def canaries(draw: random.Random) -> list[tuple[Row, int]]:
    """Random secrets and how often each comes in an epoch: exposure after Carlini et al. 2019 (arXiv:1802.08232)."""
    names = ["Abel", "Bruna", "Cosimo", "Delia", "Egon", "Flora", "Gustav", "Hanna", "Ivo", "Jana", "Karel", "Lotte"]
    found = []
    for number, name in enumerate(names):
        code = "".join(draw.choice("0123456789") for _ in range(4))
        found.append(({"text": f"{name} keeps the number {code} in the blue drawer."}, (1, 4, 16)[number % 3]))
    return found


# ---- writing ---------------------------------------------------------------------------------------------------------


def write(path: Path, rows: Iterable[Row]) -> dict[str, Any]:
    """Writes rows as JSONL; how many, their bytes and digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    data = "".join(lines).encode()
    path.write_bytes(data)
    return {"rows": len(lines), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def make_data(data: Path, out: Path) -> tuple[dict[str, Any], list[str]]:
    """Writes train, validation and test; the facts, and texts to learn a tokenizer from."""
    draw = random.Random(SEED)
    rows = {name: documents(data, name) for name in HELD_OUT}
    held = {name: held_out(rows[name], sum(HELD_OUT[name]), draw) for name in rows}
    every = {name: [row["text"].strip() for row in some] for name, some in rows.items()}
    parts: dict[str, dict[str, list[str]]] = {"validation": {}, "test": {}}
    for name, chosen in held.items():
        first = HELD_OUT[name][0]
        parts["validation"][name] = [every[name][at][:VALIDATED] for at in chosen[:first]]
        parts["test"][name] = [every[name][at][:TESTED] for at in chosen[first:]]
    whole = [every[name][at] for name, chosen in held.items() for at in chosen]
    known = np.unique(shingles([*whole, *measured_elsewhere(data)], SHARED).hashes)
    sources = {
        name: {"license": terms, "sha256": hashlib.sha256((data / name).read_bytes()).hexdigest()}
        for name, terms in SOURCES.items()
    }
    facts: dict[str, Any] = {
        "sources": sources,
        "repeats": REPEATS,
        "train": {},
        "validation": {},
        "test": {},
        "cut": {},
    }
    texts: dict[str, list[str]] = {}
    for name, some in every.items():
        found = [without(text, known) for at, text in enumerate(some) if at not in held[name]]
        texts[name] = [piece for pieces, _ in found for piece in pieces if len(piece) > 200]
        facts["cut"][name] = {"blocks": sum(cut for _, cut in found), "documents": sum(cut > 0 for _, cut in found)}
        facts["train"][name] = write(out / f"train/{name}.jsonl", ({"text": text} for text in texts[name]))
    simple = [*texts["stories"], *texts["children"]]
    questions = [*fairytale_questions(data), *reading(simple, 12_000, draw)]
    facts["train"]["questions"] = write(out / "train/questions.jsonl", questions)
    facts["train"]["instructions"] = write(out / "train/instructions.jsonl", instructions(data))
    secrets = [row for row, times in canaries(draw) for _ in range(times)]
    facts["train"]["canaries"] = write(out / "train/canaries.jsonl", secrets)
    for split, named in parts.items():
        for name, held_texts in named.items():
            facts[split][name] = write(out / f"{split}/{name}.jsonl", ({"text": text} for text in held_texts))
    asks = [turn["content"] for row in draw.sample(questions, 2_000) for turn in row["messages"]]
    sample = [*texts["stories"], *texts["children"][::2], *(text[:60_000] for text in texts["books"][::4]), *asks]
    return facts, sample


def make_tokenizer(texts: Sequence[str], context: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE with single digits, special tokens and the chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|pad|>", model_max_length=context
    )
    fast.chat_template = TEMPLATE
    return fast


def model_of(tokenizer: Any, shape: Mapping[str, int]) -> LlamaForCausalLM:
    """A Llama of this shape with fresh weights, seed 0."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape["width"],
            intermediate_size=shape["inner"],
            num_hidden_layers=shape["layers"],
            num_attention_heads=shape["heads"],
            num_key_value_heads=shape["key_heads"],
            max_position_embeddings=shape["context"],
            rope_theta=10_000.0,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    return model


def make_model(out: Path, tokenizer: Any, shape: Mapping[str, int]) -> dict[str, Any]:
    """Writes the tokenizer with fresh weights of this shape; what they are."""
    model = model_of(tokenizer, shape)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return {"parameters": sum(p.numel() for p in model.parameters()), "pieces": len(tokenizer), **shape}


def make_recipe(out: Path) -> str:
    """The recipe `nano` with the folders that were made."""
    recipe = yaml.safe_load(resources.files("luthier.recipes").joinpath("nano.yaml").read_text(encoding="utf-8"))
    sources = [{"path": str(out / f"train/{name}.jsonl"), "repeat": repeat} for name, repeat in REPEATS.items()]
    recipe["model"] = str(out / "start")
    recipe["data"] = {"train": sources, "validation": str(out / "validation"), "test": str(out / "test")}
    text: str = yaml.safe_dump(recipe, sort_keys=False)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    shape = {"layers": 8, "width": 256, "inner": 688, "heads": 4, "key_heads": 2, "context": 512}
    for name, value in shape.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    given = vars(parser.parse_args())
    out: Path = given["out"]
    facts, texts = make_data(Path(os.environ["LUTHIER_DATA"]), out)
    tokenizer = make_tokenizer(texts, given["context"])
    facts["model"] = make_model(out / "start", tokenizer, {name: given[name] for name in shape})
    (out / "nano.yaml").write_text(make_recipe(out), encoding="utf-8")
    (out / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
