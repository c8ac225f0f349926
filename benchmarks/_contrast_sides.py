"""The sides of the benchmark of contrastive training. A request is {pairs, step, cached}; the answer {wall, cpu,
tokens, loss, dtype}: a fresh model trained once over the pairs, `step` of them at a time, from texts to the last step.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks._turns import Clock, Turns

__all__ = ["LENGTH", "MINI", "SCALE", "ours", "peer"]

LENGTH, RATE, SCALE = 128, 2e-5, 20.0
MINI = 64
"""Pairs that go through the model at a time where vectors are cached."""


def ours(settings: Mapping[str, Any], turns: Turns) -> None:
    """In the dtype that pays. settings: model."""
    from luthier.core.component import build
    from luthier.core.example import Example, Origin
    from luthier.core.recipe import Machine, Phase
    from luthier.data.encode import Encoding, encode_all
    from luthier.engine.device import choose
    from luthier.engine.fit import Fit, fit
    from luthier.models.load import load_model
    from luthier.models.roles import Models, role_of

    compute = choose(Machine(device="cpu"))
    for request in turns:
        pairs, step = request["pairs"], request["step"]
        loaded = load_model(settings["model"], "features", dtype=compute.dtype)
        phase = Phase.model_validate(
            {
                "objective": {"contrast": {"scale": SCALE}},
                "optimizer": {"adamw": {"lr": RATE, "weight_decay": 0.0}},
                "schedule": "constant",
                "per_step": {"rows": step},
            }
        )
        adaptation: Any = build("adaptations", "full")
        model = adaptation.apply(loaded.model)
        clock = Clock()
        objective: Any = phase.objective
        examples = [Example(str(n), {"a": a, "b": b}, Origin("pairs", n)) for n, (a, b) in enumerate(pairs)]
        encoding = Encoding(loaded.tokenizer, max_length=LENGTH, facts=objective.survey(examples))
        rows = encode_all(objective, examples, encoding)
        order = [list(range(low, low + step)) for low in range(0, len(rows), step)]
        # Where vectors are cached, parts of as many tokens as the peer's have on average; else the step at once.
        width = sum(len(row.ids) for row in rows) * MINI // len(rows) if request["cached"] else 2 * LENGTH * step
        role = role_of(model, loaded.tokenizer.pad_token_id, loaded.pooling)
        result = fit(Fit(Models(role), objective, adaptation, phase, rows, order=order, micro_tokens=width))
        read = clock.read()
        loss = sum(result.losses) / len(result.losses)
        turns.answer({**read, "tokens": result.tokens, "loss": loss, "dtype": str(compute.dtype)})


def peer(settings: Mapping[str, Any], turns: Turns) -> None:
    """sentence-transformers' trainer. settings: folder, dtype (bfloat16: its autocast over float32 weights)."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        losses,
    )
    from torch.utils.data import SequentialSampler

    class InOrder(SentenceTransformerTrainer):
        """Batches in the order of the pairs, as ours."""

        def get_batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, **options: Any) -> Any:
            from torch.utils.data import BatchSampler

            return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)

    for request in turns:
        model = SentenceTransformer(settings["folder"], device="cpu")
        model.max_seq_length = LENGTH
        loss: Any = losses.MultipleNegativesRankingLoss(model, scale=SCALE)
        if request["cached"]:
            loss = losses.CachedMultipleNegativesRankingLoss(model, scale=SCALE, mini_batch_size=MINI)
        tokens = _tokens(model, request["pairs"])
        with tempfile.TemporaryDirectory() as folder:
            arguments = SentenceTransformerTrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=request["step"],
                num_train_epochs=1,
                learning_rate=RATE,
                lr_scheduler_type="constant",
                weight_decay=0.0,
                bf16=settings["dtype"] == "bfloat16",
                use_cpu=True,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
            )
            clock = Clock()
            first, second = zip(*request["pairs"], strict=True)
            data = Dataset.from_dict({"a": list(first), "b": list(second)})
            done = InOrder(model=model, args=arguments, train_dataset=data, loss=loss).train()
            read = clock.read()
        turns.answer({**read, "tokens": tokens, "loss": done.training_loss, "dtype": settings["dtype"]})


def _tokens(model: Any, pairs: Sequence[Sequence[str]]) -> int:
    """Counted as ours are: without padding."""
    texts = [text for pair in pairs for text in pair]
    return sum(map(len, model.tokenizer(texts, truncation=True, max_length=LENGTH)["input_ids"]))
