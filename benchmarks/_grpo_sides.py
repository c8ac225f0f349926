"""The sides of the benchmark of GRPO: our engine and TRL's GRPOTrainer on the embedded model, each in its own process.

Both answer the same letters, get 1 for a closing line, and learn full weights without a reference. The first step,
which warms up, is not timed.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from benchmarks._workload import worker
from luthier.core.embedded import embedded_data, embedded_nano
from luthier.core.peak import peak_resident

__all__ = ["CLOSING", "letters"]

CLOSING = "We keep a place free for you."
LR = 1e-5


def letters(count: int) -> list[str]:
    """The first letters to the shop that are plain text, each once."""
    lines = embedded_data("shop-preferences").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line).get("prompt") for line in lines]
    return list(dict.fromkeys(text for text in found if isinstance(text, str)))[:count]


class _Watch:
    """The clocks at the end of every step, and how many tokens were answered until then."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []
        self.tokens: list[float] = []

    def step(self, tokens: float) -> None:
        self.marks.append((time.perf_counter(), time.process_time()))
        self.tokens.append(tokens)

    def result(self, dtype: str) -> dict[str, Any]:
        import torch

        wall, cpu = (self.marks[-1][clock] - self.marks[0][clock] for clock in (0, 1))
        steps = len(self.marks) - 1
        return {
            "steps": steps,
            "wall": wall,
            "cpu": cpu,
            "steps_per_s": steps / wall,
            "steps_per_cpu_s": steps / cpu,
            "answer_tokens": sum(self.tokens[1:]) / steps,
            "threads": torch.get_num_threads(),
            "peak_gb": peak_resident() / 1e9,
            "dtype": dtype,
        }


def ours(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A phase as `luthier.fit` runs it, in the dtype that pays on the machine, its events read as they come."""
    from luthier.core.component import build
    from luthier.core.example import Example, Origin, Turn
    from luthier.core.recipe import Machine, Phase
    from luthier.data.encode import Encoding, encode_all
    from luthier.engine.device import choose, keep_memory
    from luthier.engine.fit import Fit, fit
    from luthier.engine.on_policy import rolling
    from luthier.models.load import load_model
    from luthier.models.roles import Models, role_of

    if not settings["alike"]:
        keep_memory()
    compute = choose(Machine(device="cpu"))
    loaded = load_model(str(embedded_nano()), "causal_lm", dtype=compute.dtype)
    grpo = {"rewards": [{"contains": {"text": CLOSING}}], "answers": settings["answers"]}
    phase = Phase(
        objective={"grpo": {**grpo, "max_new_tokens": settings["new_tokens"]}},
        optimizer={"adamw": {"lr": LR}},
        schedule="constant",
        steps=settings["steps"],
        per_step={"rows": settings["prompts"]},
    )
    asked = letters(settings["prompts"] * settings["steps"])
    rows = [
        Example(f"r:{number}", {"prompt": (Turn("user", text),)}, Origin("letters", number + 1))
        for number, text in enumerate(asked)
    ]
    adaptation = build("adaptations", "full")
    model = adaptation.apply(loaded.model)  # type: ignore[attr-defined]
    policy, encoding = role_of(model, loaded.tokenizer.pad_token_id), Encoding(loaded.tokenizer, max_length=512)
    watch = _Watch()

    def log(event: str, **values: Any) -> None:
        if event == "step":
            watch.step(values["figures"]["answer_tokens"])

    models = Models(policy)
    with rolling(phase, loaded, models, encoding, {"train": rows}, seed=1, device=compute.device) as rollouts:
        fit(
            Fit(
                models=models,
                objective=phase.objective,
                adaptation=adaptation,  # type: ignore[arg-type]
                phase=phase,
                rows=encode_all(phase.objective, rows, encoding),
                rollouts=rollouts,
                log=log,
            )
        )
    return watch.result(str(compute.dtype).removeprefix("torch."))


def peer(settings: Mapping[str, Any]) -> dict[str, Any]:
    """TRL's trainer, generating with transformers, as it does where there is no vLLM.

    settings: alike (no recomputation) or with what it chooses by itself, dtype (of the weights) and autocast.
    """
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    watch = _Watch()

    class Steps(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
            if logs and "completions/mean_length" in logs:
                watch.step(float(logs["completions/mean_length"]))

    def reward(completions: list[Any], **more: Any) -> list[float]:
        return [float(CLOSING in said[0]["content"]) for said in completions]

    asked = letters(settings["prompts"] * settings["steps"])
    given: dict[str, Any] = {"gradient_checkpointing": False} if settings["alike"] else {}
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            report_to="none",
            use_cpu=True,
            bf16=settings["autocast"],
            model_init_kwargs={"dtype": settings["dtype"]},
            disable_tqdm=True,
            save_strategy="no",
            logging_steps=1,
            learning_rate=LR,
            lr_scheduler_type="constant",
            max_steps=settings["steps"],
            per_device_train_batch_size=settings["prompts"] * settings["answers"],
            num_generations=settings["answers"],
            max_completion_length=settings["new_tokens"],
            temperature=1.0,
            beta=0.0,
            loss_type="grpo",
            **given,
        )
        trainer = GRPOTrainer(
            str(embedded_nano()),
            reward_funcs=[reward],
            args=config,
            train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": text}]} for text in asked]),
            processing_class=AutoTokenizer.from_pretrained(embedded_nano()),
            callbacks=[Steps()],
        )
        trainer.train()
    return watch.result(f"{settings['dtype']}{', autocast' if settings['autocast'] else ''}")


def run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The side that the settings name."""
    return (ours if settings["side"] == "ours" else peer)(settings)


if __name__ == "__main__":
    worker(run)
