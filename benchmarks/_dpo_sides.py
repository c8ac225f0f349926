"""The sides of the benchmark of DPO: our engine and TRL's DPOTrainer, over the same pairs, each in its own process.

Seconds are those of the steps over the timed pairs, and of asking the reference about them: ours in a pass before the
first step, the peer's in its own pass or in its steps.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from benchmarks._workload import HIDDEN, RANK, VOCABULARY, worker
from luthier.core.peak import peak_resident

__all__ = ["SETTLED", "Pair", "pairs_in_order", "write_words"]

SETTLED = 16
"""Pairs after which a side's clock begins, at the end of its second step or a later one; none is longer than these."""
WORDS_FROM, END = 10, 2


@dataclass(frozen=True)
class Pair:
    """Token ids; each answer ends in the end token."""

    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Useful tokens: those of two conversations, the prompt in each."""
        return 2 * len(self.prompt) + len(self.chosen) + len(self.rejected)


def pairs_in_order(count: int, seed: int = 11) -> list[Pair]:
    """SETTLED pairs as long as the longest of all, then pairs with prompts of 54 tokens and answers of 81 in the mean,
    log-normal as instructions are.
    """
    draw = random.Random(seed)

    def length(mean: float, most: int) -> int:
        return min(most, max(8, round(draw.lognormvariate(0, 0.55) * mean / 1.163)))

    def made(prompt: int, chosen: int, rejected: int) -> Pair:
        words = [draw.randrange(WORDS_FROM, VOCABULARY) for _ in range(prompt + chosen + rejected - 2)]
        first, second = words[prompt : prompt + chosen - 1], words[prompt + chosen - 1 :]
        return Pair(tuple(words[:prompt]), (*first, END), (*second, END))

    shapes = [(length(54, 160), length(81, 240), length(81, 240)) for _ in range(count - SETTLED)]
    longest = max(prompt + max(chosen, rejected) for prompt, chosen, rejected in shapes)
    settled = [(longest // 3, longest - longest // 3, longest - longest // 3)] * SETTLED
    return [made(*shape) for shape in (*settled, *shapes)]


def write_words(folder: Path) -> None:
    """A tokenizer whose words are the ids, w10 and so on, so that a trainer that takes text gets the very tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "</s>": END, "<unk>": 3} | {f"w{number}": number for number in range(4, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)


class _Watch:
    """Seconds on the wall and of the processors: of every step, and of asking the reference."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []
        self.pairs: list[int] = []
        self.losses: list[float] = []
        self.asked = (0.0, 0.0)

    def step(self, pairs: int) -> None:
        self.marks.append((time.perf_counter(), time.process_time()))
        self.pairs.append(pairs)

    def asking(self, work: Callable[[], Any]) -> Any:
        """Does the work, which asks the reference about all pairs."""
        began = time.perf_counter(), time.process_time()
        found = work()
        self.asked = (
            self.asked[0] + time.perf_counter() - began[0],
            self.asked[1] + time.process_time() - began[1],
        )
        return found

    def result(self, pairs: Sequence[Pair], body: int, dtype: str) -> dict[str, Any]:
        """Rates and memory. Errors: ValueError where no step ends after the settled pairs."""
        import torch

        done = list(accumulate(self.pairs))
        began = next((at for at, count in enumerate(done) if count >= SETTLED and at), len(done))
        if began + 1 >= len(done):
            raise ValueError(f"{len(done)} steps over {len(pairs)} pairs: none is left after the first {SETTLED}")
        timed = pairs[done[began] : done[-1]]
        tokens = sum(pair.tokens for pair in timed)
        share = tokens / sum(pair.tokens for pair in pairs)
        wall, cpu = (self.marks[-1][k] - self.marks[began][k] + share * self.asked[k] for k in (0, 1))
        learned = sum(len(pair.chosen) + len(pair.rejected) for pair in timed)
        # A pass of the reference, a forward and a backward pass to the inputs: 6 a weight and token.
        operations = 6.0 * (body * tokens + VOCABULARY * HIDDEN * learned)
        return {
            "pairs_per_s": len(timed) / wall,
            "pairs_per_cpu_s": len(timed) / cpu,
            "wall": wall,
            "cpu": cpu,
            "threads": torch.get_num_threads(),
            "peak_gb": peak_resident() / 1e9,
            "operations_per_s": operations / wall,
            "first_loss": self.losses[0],
            "steps": len(self.marks),
            "dtype": dtype,
        }


def ours(settings: Mapping[str, Any], pairs: Sequence[Pair]) -> dict[str, Any]:
    """settings: model, batch (pairs a step), micro_tokens (None: the usual), alike (bf16 weights, the allocator as it
    is) or not.
    """
    import numpy as np
    import torch

    from luthier.core.contracts import Row
    from luthier.core.recipe import Machine, Phase
    from luthier.engine.device import choose, keep_memory
    from luthier.engine.fit import Fit, fit
    from luthier.engine.precompute import precompute
    from luthier.engine.room import USUAL_TOKENS
    from luthier.models.load import load_model
    from luthier.models.roles import Models, role_of

    if not settings["alike"]:
        keep_memory()
    compute = choose(Machine(device="cpu", dtype="bfloat16" if settings["alike"] else "auto"))
    loaded = load_model(settings["model"], "causal_lm", dtype=compute.dtype, device=compute.device, seed=1)
    body = sum(value.numel() for name, value in loaded.model.named_parameters() if "embed" not in name)
    phase = Phase(objective="dpo", adaptation={"lora": {"rank": RANK}}, per_step={"rows": settings["batch"]})
    role = role_of(phase.adaptation.apply(loaded.model), loaded.tokenizer.pad_token_id)
    rows = []
    for number, pair in enumerate(pairs):
        shared, last = pair.prompt[:-1], pair.prompt[-1:]
        branches = [(*last, *answer) for answer in (pair.chosen, pair.rejected)]
        marks = [np.arange(len(branch)) > 0 for branch in branches]
        ids = np.array([*shared, *branches[0], *branches[1]], dtype=np.int64)
        marked = np.concatenate([np.zeros(len(shared), dtype=np.bool_), *marks])
        rows.append(Row(f"pair-{number}", ids, marked, branches=tuple(map(len, branches))))
    watch, micro_tokens = _Watch(), settings["micro_tokens"] or USUAL_TOKENS
    with tempfile.TemporaryDirectory() as folder:
        # With the file that a run keeps: writing it belongs to the cost.
        ready = watch.asking(
            lambda: precompute(
                phase.objective,
                role,
                rows,
                device=compute.device,
                micro_tokens=micro_tokens,
                file=Path(folder) / "r.safetensors",
            )
        )
    batch = settings["batch"]
    order = [list(range(low, min(low + batch, len(rows)))) for low in range(0, len(rows), batch)]

    def log(event: str, **values: Any) -> None:
        if event == "step":
            watch.losses.append(values["loss"])
            watch.step(len(order[values["step"] - 1]))

    fit(
        Fit(
            models=Models(role),
            objective=phase.objective,
            adaptation=phase.adaptation,
            phase=phase,
            rows=ready,
            device=torch.device("cpu"),
            micro_tokens=micro_tokens,
            log=log,
            order=order,
        )
    )
    return watch.result(pairs, body, str(compute.dtype).removeprefix("torch."))


def peer(settings: Mapping[str, Any], pairs: Sequence[Pair]) -> dict[str, Any]:
    """settings: model, batch (pairs a step), alike, autocast (the trainer's own, on or off), precompute (the reference
    asked in a pass before the steps, or in each step with the adapter off).
    """
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer

    def words(ids: Sequence[int]) -> str:
        return " ".join(f"w{number}" for number in ids)

    # The trainer adds the end token to each answer.
    data = Dataset.from_list(
        [
            {
                "prompt": words(pair.prompt),
                "chosen": " " + words(pair.chosen[:-1]),
                "rejected": " " + words(pair.rejected[:-1]),
            }
            for pair in pairs
        ]
    )
    watch, batch = _Watch(), settings["batch"]

    class Mark(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            watch.step(min(batch, len(pairs) - (state.global_step - 1) * batch))

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                watch.losses.append(logs["loss"])

    class Timed(DPOTrainer):  # type: ignore[misc]
        def _precompute_ref_logps(self, *arguments: Any, **named: Any) -> Any:
            return watch.asking(lambda: super(Timed, self)._precompute_ref_logps(*arguments, **named))

    given: dict[str, Any] = {"per_device_train_batch_size": batch}
    if settings["alike"]:
        given |= {"model_init_kwargs": {"dtype": "bfloat16"}, "gradient_checkpointing": False}
    if not settings["autocast"]:
        given |= {"bf16": False}
    config = DPOConfig(
        output_dir=tempfile.mkdtemp(),
        num_train_epochs=1,
        precompute_ref_log_probs=settings["precompute"],
        max_length=None,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        use_cpu=True,
        train_sampling_strategy="sequential",
        **given,
    )
    adapters = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = Timed(settings["model"], args=config, train_dataset=data, peft_config=adapters, callbacks=[Mark()])
    held = {name: value for name, value in trainer.model.named_parameters() if "lora_" not in name}
    body = sum(value.numel() for name, value in held.items() if "embed" not in name)
    # What the trainer made of the pairs is what we gave it: order, length, and what is learned.
    first = next(iter(trainer.get_train_dataloader()))
    some = pairs[:batch]
    assert first["input_ids"].shape[1] == max(len(p.prompt) + max(len(p.chosen), len(p.rejected)) for p in some)
    assert int(first["completion_mask"].sum()) == sum(len(p.chosen) + len(p.rejected) for p in some)
    trainer.train()
    weights = str(next(iter(held.values())).dtype).removeprefix("torch.")
    return watch.result(pairs, body, f"{weights}{', autocast' if trainer.args.bf16 else ''}")


def run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """settings: side (ours or other), pairs, and those of the side."""
    return {"ours": ours, "other": peer}[settings["side"]](settings, pairs_in_order(settings["pairs"]))


if __name__ == "__main__":
    worker(run)
