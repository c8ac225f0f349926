"""LoRA fine-tuning of a chat model in one flat script, with nothing but torch, transformers and PEFT.

    python examples/flat_sft.py MODEL DATA.jsonl --out adapter --steps 200

MODEL is a folder or hub id whose tokenizer has a chat template; a row of DATA is {"messages": [{role, content}, ...]}.
It does what the recipe {objective: causal_lm, adaptation: lora, optimizer: adamw, schedule: cosine} does, as plainly as
it can be done: sequences are computed one at a time, so that none can see another, and no padding is needed. The tests
hold its losses against the engine's. It shows what has to be right; the engine is what is fast.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file that hold a conversation; lines that cannot be read are counted, not hidden."""
    rows, bad = [], 0
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            sound = all(isinstance(turn["content"], str) and turn["content"].strip() for turn in row["messages"])
            sound = sound and row["messages"][-1]["role"] == "assistant"
        except (ValueError, KeyError, TypeError, IndexError):
            sound = False
        if sound:
            rows.append(row)
        else:
            bad += 1
    if bad:
        print(f"{bad} of {bad + len(rows)} rows could not be read and were left out")
    return rows


def encode(tokenizer: Any, messages: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    """A conversation as ids [L] and a mask [L] that is True where a token is to be learned: answers with their end."""
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    spans = []
    for index, turn in enumerate(messages):
        if turn["role"] != "assistant":
            continue
        before = tokenizer.apply_chat_template(messages[:index], tokenize=False, add_generation_prompt=True)
        through = tokenizer.apply_chat_template(messages[: index + 1], tokenize=False)
        if not (through.startswith(before) and text.startswith(through)):
            raise ValueError("this chat template changes earlier turns, so the answers cannot be found by prefixes")
        end = through.rfind(tokenizer.eos_token, len(before))
        if end < 0:
            raise ValueError(f"this chat template does not end an answer with {tokenizer.eos_token}")
        # The template's line break after the end token is nothing that the model should say.
        spans.append((len(before), end + len(tokenizer.eos_token)))
    # The template has written the special tokens already; a tokenizer that adds its own would double them.
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    learned = [any(a <= start < end <= b for a, b in spans) for start, end in found["offset_mapping"]]
    learned[0] = False  # nothing comes before the first token, so nothing predicts it
    return torch.tensor(found["input_ids"]), torch.tensor(learned)


def seeded_order(lengths: Sequence[int], tokens_per_step: int, seed: int) -> Iterator[list[int]]:
    """Positions of the rows of each step: a new shuffle each epoch, whole rows up to the budget of tokens."""
    draw = random.Random(seed)
    while True:
        positions = list(range(len(lengths)))
        draw.shuffle(positions)
        step: list[int] = []
        for position in positions:
            if step and sum(lengths[other] for other in step) + lengths[position] > tokens_per_step:
                yield step
                step = []
            step.append(position)
        yield step


def cosine(step: int, steps: int, warmup: float = 0.05) -> float:
    """The share of the peak learning rate at `step` (from 0): a linear rise, then half a cosine down to 0."""
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - 1 - rise)))


def nll(model: Any, ids: torch.Tensor, learned: torch.Tensor) -> torch.Tensor:
    """The summed negative log-likelihood (nats) of the learned tokens of one sequence."""
    logits = model(input_ids=ids[None]).logits[0, :-1]
    return functional.cross_entropy(logits[learned[1:]].float(), ids[1:][learned[1:]], reduction="sum")


def adapt(model: Any, rank: int, seed: int) -> PeftModel:
    """The model with low-rank adapters on every linear layer but the output layer; one that has adapters keeps them."""
    if isinstance(model, PeftModel):
        return model
    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, config)


def train(
    model: Any,
    tokenizer: Any,
    rows: Sequence[dict[str, Any]],
    *,
    steps: int,
    tokens_per_step: int,
    lr: float,
    rank: int,
    seed: int,
    order: Sequence[Sequence[int]] | None = None,
) -> list[float]:
    """Trains the model's adapters and returns each step's loss before its update.

    A step's loss is the sum over its learned tokens divided by their number, however the step is cut.
    order: positions in `rows` of each step, in place of a seeded shuffle.
    """
    model = adapt(model, rank, seed)
    encoded = [encode(tokenizer, row["messages"]) for row in rows]
    plan = iter(order) if order is not None else seeded_order([len(ids) for ids, _ in encoded], tokens_per_step, seed)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    losses = []
    model.train()
    for step in range(steps):
        batch = [encoded[position] for position in next(plan)]
        count = sum(int(learned.sum()) for _, learned in batch)
        total = 0.0
        for ids, learned in batch:
            # Gradients add up over the sequences; dividing each by the count of the whole step makes them the step's.
            part = nll(model, ids, learned) / count
            part.backward()
            total += part.item()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = lr * cosine(step, steps)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    model.eval()
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description="LoRA fine-tuning of a chat model in one flat script.")
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("adapter"))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tokens-per-step", type=int, default=4096)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    plain = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32)
    model = adapt(plain, given.rank, given.seed)
    settings = {"steps": given.steps, "tokens_per_step": given.tokens_per_step, "lr": given.lr, "rank": given.rank}
    losses = train(model, tokenizer, read(given.data), seed=given.seed, **settings)
    print(f"loss of the first step {losses[0]:.4f}, of the last {losses[-1]:.4f} (nats a learned token)")
    model.save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)


if __name__ == "__main__":
    main()
