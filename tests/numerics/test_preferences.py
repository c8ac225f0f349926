"""Preference objectives against TRL, on the same tokens: loss and gradient of the trainers, formulas of the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conformance.world import Task
from tiny import make_llama, make_tokenizer
from torch import Tensor, nn

from luthier.core.component import build
from luthier.core.contracts import Objective, Row
from luthier.engine.precompute import precompute
from luthier.engine.step import accumulate, measure
from luthier.models.load import load_model
from luthier.models.roles import Models, role_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    trl = pytest.importorskip("trl")
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

CPU = torch.device("cpu")
TEXTS = {"prompt": "The wolf", "chosen": " sang.", "rejected": " slept."}


def objective_of(value: Any) -> Objective:
    found = build("objectives", value)
    assert isinstance(found, Objective)
    return found


def asked(objective: Objective, reference: nn.Module) -> Task:
    """The conformance suite's rows with what `reference` says of them: another model than the policy, so that ratios
    are not zero.
    """
    task = Task.of(objective)
    return Task(
        objective,
        task.part,
        task.facts,
        precompute(objective, role_of(reference, 0), task.rows, device=CPU, micro_tokens=64),
    )


def pieces(row: Row) -> tuple[list[int], list[list[int]]]:
    """Prompt and answers of a row as TRL's collators take them."""
    shared = len(row.ids) - sum(row.branches)
    ends = np.cumsum(row.branches) + shared
    prompt = row.ids[: shared + 1].tolist()
    return prompt, [row.ids[end - length + 1 : end].tolist() for end, length in zip(ends, row.branches, strict=True)]


def trainer_of(kind: str, folder: Path, model: nn.Module, records: list[dict[str, Any]], **settings: Any) -> Any:
    from datasets import Dataset

    reference = {"ref_model": settings.pop("ref_model")} if "ref_model" in settings else {}
    config = getattr(trl, f"{kind}Config")(
        output_dir=str(folder),
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
        per_device_train_batch_size=len(records),
        max_length=None,
        **settings,
    )
    data = Dataset.from_list(records)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(trl, f"{kind}Trainer")(
            model, args=config, train_dataset=data, processing_class=make_tokenizer(template=None), **reference
        )


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def agree(ours: Callable[[], float], theirs: Callable[[], Tensor], model: nn.Module, other: nn.Module) -> None:
    """Loss and every gradient, to rounding; other: TRL's copy of the model."""
    loss = ours()
    mine = gradients(model)
    found = theirs()
    found.backward()
    wanted = gradients(other)
    assert loss == pytest.approx(found.item(), rel=2e-6)
    largest = max(float(gradient.abs().max()) for gradient in wanted.values())
    assert largest > 0
    assert mine.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(mine[name], gradient, rtol=0, atol=1e-5 * largest, msg=name)


@pytest.mark.parametrize(
    ("value", "settings"),
    [
        ({"dpo": {"beta": 0.3}}, {"beta": 0.3}),
        ({"ipo": {"tau": 0.2}}, {"beta": 0.2, "loss_type": "ipo"}),
    ],
    ids=["dpo", "ipo"],
)
def test_pairs_give_the_loss_and_gradient_of_trls_trainer(value, settings, tmp_path: Path) -> None:
    model, other, reference = make_llama(), make_llama(), make_llama(seed=1)
    task = asked(objective_of(value), reference)
    trainer = trainer_of("DPO", tmp_path, other, [TEXTS] * 2, ref_model=reference, **settings)
    records = []
    for row in task.rows:
        prompt, (chosen, rejected) = pieces(row)
        records.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    inputs = trainer.data_collator(records)
    models = Models(role_of(model, 0))
    agree(
        lambda: accumulate(task.objective, (), models, [task.batch(0, 1), task.batch(2, 3, 4, 5)]).loss,
        lambda: trainer.compute_loss(trainer.model, inputs),
        model,
        trainer.model,
    )


def test_kto_gives_the_loss_and_gradient_of_trls_trainer(tmp_path: Path) -> None:
    """With the same mismatched answers; the drift is of the whole step though ours comes in two parts."""
    model, other, reference = make_llama(seed=1), make_llama(seed=1), make_llama()
    task = asked(objective_of({"kto": {"beta": 0.4, "good_weight": 1.3, "bad_weight": 0.7}}), reference)
    start = {"prompt": "The wolf", "completion": " sang.", "label": True}
    trainer = trainer_of(
        "KTO",
        tmp_path,
        other,
        [start, {**start, "label": False}],
        ref_model=reference,
        beta=0.4,
        desirable_weight=1.3,
        undesirable_weight=0.7,
        train_sampling_strategy="sequential",
    )
    records = []
    for row in task.rows:
        prompt, (answer, mismatched) = pieces(row)
        record = {"prompt_ids": prompt, "completion_ids": answer, "KL_completion_ids": mismatched}
        records.append({**record, "label": bool(row.fields["good"])})
    inputs = trainer.data_collator(records)
    models = Models(role_of(model, 0))
    drift = measure(task.objective, models, [task.batch()]).figures["baseline"]
    assert drift > 0.01, "a drift of zero would prove nothing"
    agree(
        lambda: accumulate(task.objective, (), models, [task.batch(0, 1), task.batch(2, 3, 4, 5)]).loss,
        lambda: trainer.compute_loss(trainer.model, inputs),
        model,
        trainer.model,
    )


def test_a_reward_model_gives_the_loss_and_gradient_of_trls_trainer(llama_folder: Path, tmp_path: Path) -> None:
    model, other = (load_model(str(llama_folder), "sequence_score", labels=["reward"], seed=3).model for _ in range(2))
    objective = objective_of({"reward": {"center": 0.05}})
    task = Task.of(objective, "chosen")
    rows = [
        row.__class__(**{**_plain(row), "fields": {"margin": np.float32(0.1 * at)}}) for at, row in enumerate(task.rows)
    ]
    task = Task(objective, task.part, task.facts, rows)
    trainer = trainer_of(
        "Reward", tmp_path, other, [{"chosen": "The wolf sang.", "rejected": "The wolf."}] * 2,
        center_rewards_coefficient=0.1,
    )  # fmt: skip
    records = []
    for at, row in enumerate(rows):
        prompt, (chosen, rejected) = pieces(row)
        records.append({"chosen_ids": prompt + chosen, "rejected_ids": prompt + rejected, "margin": 0.1 * at})
    inputs = trainer.data_collator(records)
    models = Models(role_of(model, 0))

    def theirs() -> Tensor:
        # TRL squares the sum of the two rewards, where the paper's and ours is the mean of their squares.
        rewards = trainer.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, 0]
        chosen, rejected = rewards.chunk(2)
        own = trainer.compute_loss(trainer.model, dict(inputs)) - 0.1 * (chosen + rejected).square().mean()
        return own + 0.05 * rewards.square().mean()

    agree(
        lambda: accumulate(objective, (), models, [task.batch(0, 1), task.batch(2, 3, 4, 5)]).loss,
        theirs,
        model,
        trainer.model,
    )


def _plain(row: Row) -> dict[str, Any]:
    return {name: getattr(row, name) for name in Row.__dataclass_fields__}


# ---- formulas, where a trainer computes other inputs than the paper --------------------------------------------------


def means(seed: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    first, second = -3 * torch.rand(2, 8, generator=draw) - 0.01
    return first, second


def test_the_odds_ratio_is_trls() -> None:
    from luthier.functional.preferences import orpo_loss

    chosen, rejected = means(1)
    held = SimpleNamespace(beta=1.0, accelerator=SimpleNamespace(device=CPU))
    theirs, *_ = ORPOTrainer.odds_ratio_loss(held, chosen, rejected)
    torch.testing.assert_close(orpo_loss(chosen, rejected), -theirs, rtol=1e-5, atol=1e-6)


def test_simpos_loss_is_trls() -> None:
    from luthier.functional.preferences import simpo_loss

    chosen, rejected = means(2)
    held = SimpleNamespace(
        beta=2.0,
        simpo_gamma=0.7,
        loss_type="simpo",
        label_smoothing=0.0,
        alpha=0.0,
        accelerator=SimpleNamespace(device=CPU),
    )
    theirs, *_ = CPOTrainer.cpo_loss(held, chosen, rejected)
    torch.testing.assert_close(simpo_loss(chosen - rejected, 2.0, 0.7), theirs, rtol=1e-5, atol=1e-6)


# ---- what trainers do otherwise, by plain torch ----------------------------------------------------------------------


def by_hand(task: Task, model: nn.Module, value: dict[str, Any]) -> Tensor:
    """The loss from transformers' own forward over each answer behind its prompt, as the papers write it."""
    ((name, given),) = value.items()
    total = torch.zeros(())
    for row in task.rows:
        prompt, answers = pieces(row)
        sums, means = [], []
        for answer in answers:
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            logps = logits.log_softmax(-1).gather(-1, torch.tensor(answer)[:, None])
            sums.append(logps.sum())
            means.append(logps.mean())
        if name == "simpo":
            total = total - (given["beta"] * (means[0] - means[1]) - given["gamma"]).sigmoid().log()
        if name == "orpo":
            odds = [mean.exp() / (1 - mean.exp()) for mean in means]
            total = total - means[0] - given["weight"] * (odds[0] / odds[1]).log().sigmoid().log()
        if name == "ipo":
            reference = torch.from_numpy(row.fields["reference"])
            away = [(one - other) / len(answer) for one, other, answer in zip(sums, reference, answers, strict=True)]
            total = total + (away[0] - away[1] - 1 / (2 * given["tau"])) ** 2
    return total / len(task.rows)


@pytest.mark.parametrize(
    "value",
    [{"simpo": {"beta": 2.5, "gamma": 0.6}}, {"orpo": {"weight": 0.7}}, {"ipo": {"tau": 0.3}}],
    ids=lambda value: next(iter(value)),
)
def test_answers_of_unlike_lengths_are_means_over_their_own_tokens(value: dict[str, Any]) -> None:
    """Loss and gradient; the prompt is in neither."""
    task = Task.of(objective_of(value))
    if "ipo" in value:
        task = asked(objective_of(value), make_llama(seed=1))
    assert any(len({*map(len, pieces(row)[1])}) == 2 for row in task.rows)
    model, other = make_llama(), make_llama()
    agree(
        lambda: (
            accumulate(task.objective, (), Models(role_of(model, 0)), [task.batch(0, 1), task.batch(2, 3, 4, 5)]).loss
        ),
        lambda: by_hand(task, other, value),
        model,
        other,
    )
