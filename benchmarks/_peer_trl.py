"""The peer's side of the training benchmarks: TRL's SFTTrainer, for LoRA with PEFT, in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any

from benchmarks._workload import RANK, Clock, rows_in_order, worker


def run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """settings: model (a folder), kind, rows, batch (rows a step), alike (bf16 weights, no recomputation) or not, and
    autocast: whether the trainer's bf16 autocast stays on, as by default.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    rows, batch = rows_in_order(settings["rows"]), settings["batch"]
    data = Dataset.from_list(
        [
            {
                "input_ids": list(row.ids),
                "labels": [-100] * (len(row.ids) - row.learned) + list(row.ids[-row.learned :]),
            }
            for row in rows
        ]
    )
    clock = Clock()

    class Mark(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.step(batch)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                clock.losses.append(logs["loss"])

    # Beyond its defaults, the peer is only spared what is no training, and held to the order of the rows.
    given: dict[str, Any] = {"per_device_train_batch_size": batch}
    if settings["alike"]:
        given |= {"model_init_kwargs": {"dtype": "bfloat16"}, "gradient_checkpointing": False}
    if not settings["autocast"]:
        given |= {"bf16": False}
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        use_cpu=True,
        **given,
    )
    adapters = None
    if settings["kind"] == "lora":
        adapters = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(settings["model"], args=config, train_dataset=data, peft_config=adapters, callbacks=[Mark()])
    held = {name: value for name, value in trainer.model.named_parameters() if "lora_" not in name}
    body = sum(value.numel() for name, value in held.items() if "embed" not in name)
    # What the trainer made of the rows is what we gave it: order, length, and what is learned.
    first = next(iter(trainer.get_train_dataloader()))
    assert first["input_ids"].shape[1] == max(len(row.ids) for row in rows[:batch])
    assert int((first["labels"] != -100).sum()) == sum(row.learned for row in rows[:batch])
    trainer.train()
    weights = str(next(iter(held.values())).dtype).removeprefix("torch.")
    return clock.result(settings["kind"], rows, body, f"{weights}{', autocast' if trainer.args.bf16 else ''}")


if __name__ == "__main__":
    worker(run)
