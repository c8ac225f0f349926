"""The sides of the classification benchmark: our engine, and transformers' Trainer.

A request is a number of steps, answered with {wall, cpu, tokens} of these steps; or, once all steps are made,
"classes", answered with {classes}: the class number that the trained model gives each test text.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks._turns import Clock, Turns, outside_data

__all__ = ["BATCH", "MODEL", "messages", "ours", "peer", "rows_of_steps"]

MODEL = "embedded:minilm"
BATCH = 128
RATE, DECAY, WARMUP, HEAD, LONGEST = 2e-4, 0.01, 0.1, 10.0, 128
"""As in the recipe `intents`: learning rate, weight decay, share of warm-up, the head's multiple, length."""


def messages(part: str) -> list[tuple[str, str]]:
    """Text and class of every message of Banking77; part: train or test."""
    with outside_data("tasks", "banking77", f"{part}.csv").open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def rows_of_steps(rows: int, steps: int, seed: int = 1) -> list[list[int]]:
    """The rows of each step: BATCH of a shuffled epoch, each epoch in an order of its own, short rests left out."""
    found: list[list[int]] = []
    random = np.random.default_rng(seed)
    while len(found) < steps:
        order = random.permutation(rows).tolist()
        found += [order[low : low + BATCH] for low in range(0, rows - BATCH + 1, BATCH)]
    return found[:steps]


class _Pace:
    """Lets a training run go on for as many steps as were asked for, then answers and waits for the next request."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._requests: Iterator[Any] = iter(turns)
        self._left = self._tokens = 0

    def start(self) -> None:
        """Waits for the first request. The same when one is answered. Errors: EndOfTurns when no more come."""
        request = next(self._requests, None)
        if request is None:
            raise EndOfTurns
        self._left, self._tokens, self._clock = int(request), 0, Clock()

    def step(self, tokens: int, *, last: bool) -> None:
        """A step over so many useful tokens was made."""
        self._left -= 1
        self._tokens += tokens
        if self._left == 0 or last:
            self._turns.answer({**self._clock.read(), "tokens": self._tokens})
            if not last:
                self.start()

    def name_classes(self, found: Sequence[int]) -> None:
        """Answers the request for classes, if there is one."""
        if next(self._requests, None) is not None:
            self._turns.answer({"classes": list(found)})


class EndOfTurns(Exception):
    """No more steps are asked for."""


def ours(settings: Mapping[str, Any], turns: Turns) -> None:
    """The engine's fit in the dtype that pays. settings: steps.

    The allocator has the peer's settings (_turns.ALLOCATOR), not those of our commands.
    """
    from luthier.core.example import Example, Origin
    from luthier.core.recipe import Decoding, Machine, Phase
    from luthier.data.encode import Encoding, encode_all
    from luthier.engine.device import choose
    from luthier.engine.fit import Fit, fit
    from luthier.evaluate.subject import ModelSubject
    from luthier.models.load import load_model
    from luthier.models.roles import Models, role_of

    compute = choose(Machine(device="cpu"))
    given = {
        part: [
            Example(f"{part}-{number}", {"text": text}, Origin(f"{part}.csv", number), label)
            for number, (text, label) in enumerate(messages(part))
        ]
        for part in ("train", "test")
    }
    phase = Phase(
        objective="classify",
        adaptation={"full": {"head_scale": HEAD}},
        optimizer={"adamw": {"lr": RATE, "weight_decay": DECAY}},
        schedule={"linear": {"warmup": WARMUP}},
        steps=settings["steps"],
        per_step={"rows": BATCH},
        max_length=LONGEST,
    )
    facts = phase.objective.survey(given["train"])
    loaded = load_model(
        MODEL, "sequence_classification", labels=facts["classes"], dtype=compute.dtype, device=compute.device, seed=1
    )
    encoding = Encoding(loaded.tokenizer, max_length=LONGEST, facts=facts)
    rows = encode_all(phase.objective, given["train"], encoding)
    order = rows_of_steps(len(rows), settings["steps"])
    role = role_of(phase.adaptation.apply(loaded.model), loaded.tokenizer.pad_token_id)
    pace, done = _Pace(turns), iter(range(1, len(order) + 1))

    def log(event: str, **_: Any) -> None:
        if event == "step":
            number = next(done)
            pace.step(sum(len(rows[row].ids) for row in order[number - 1]), last=number == len(order))

    job = Fit(Models(role), phase.objective, phase.adaptation, phase, rows, device=compute.device, log=log, order=order)
    try:
        pace.start()
        fit(job)
    except EndOfTurns:
        return
    subject = ModelSubject("tuned", role, encoding, phase.objective, Decoding(), seed=1)
    pace.name_classes(subject.classify(given["test"]).argmax(1).tolist())


def peer(settings: Mapping[str, Any], turns: Turns) -> None:
    """transformers' Trainer with dynamic padding. settings: steps, bf16, grouped (by length)."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    from luthier.models.embedded import embedded_folder

    folder, train = str(embedded_folder(MODEL)), messages("train")
    classes = sorted({label for _, label in train})
    set_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=len(classes))
    order = rows_of_steps(len(train), settings["steps"])
    wanted = {part: _encoded(tokenizer, messages(part), classes) for part in ("train", "test")}
    pace, pad = _Pace(turns), DataCollatorWithPadding(tokenizer)
    tokens: list[int] = []

    def collate(rows: list[dict[str, Any]]) -> Any:
        tokens.append(sum(len(row["input_ids"]) for row in rows))
        return pad(rows)

    class Mark(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            pace.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            pace.step(tokens[state.global_step - 1], last=state.global_step == len(order))

    with tempfile.TemporaryDirectory() as into:
        arguments = TrainingArguments(
            output_dir=into,
            max_steps=len(order),
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH,
            learning_rate=RATE,
            lr_scheduler_type="linear",
            warmup_steps=WARMUP,
            bf16=settings["bf16"],
            train_sampling_strategy="group_by_length" if settings["grouped"] else "sequential",
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
        )
        trainer = Trainer(
            model,
            arguments,
            train_dataset=[wanted["train"][row] for step in order for row in step],
            data_collator=collate,
            callbacks=[Mark()],
            optimizers=(torch.optim.AdamW(_groups(model), lr=RATE, fused=True), None),
        )
        try:
            trainer.train()
        except EndOfTurns:
            return
        # It would group the test texts by length too, and give its answers in that order.
        arguments.train_sampling_strategy = "sequential"
        found = trainer.predict(wanted["test"])
        assert found.label_ids.tolist() == [row["labels"] for row in wanted["test"]], "answers in another order"
        pace.name_classes(found.predictions.argmax(1).tolist())


def _encoded(tokenizer: Any, given: Sequence[tuple[str, str]], classes: Sequence[str]) -> list[dict[str, Any]]:
    ids = tokenizer([text for text, _ in given], truncation=True, max_length=LONGEST)["input_ids"]
    number = {label: index for index, label in enumerate(classes)}
    return [{"input_ids": row, "labels": number[label]} for row, (_, label) in zip(ids, given, strict=True)]


def _groups(model: Any) -> list[dict[str, Any]]:
    """The rates and decays of ours: the head (classifier and pooler) learns faster, biases and norms do not decay."""
    found: dict[tuple[bool, bool], list[Any]] = {}
    for name, parameter in model.named_parameters():
        head = name.startswith("classifier") or ".pooler." in name
        found.setdefault((head, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": members, "lr": RATE * (HEAD if head else 1.0), "weight_decay": DECAY if decays else 0.0}
        for (head, decays), members in found.items()
    ]
