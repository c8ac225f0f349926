"""Policy-gradient objectives against TRL's trainers, on the same tokens, advantages and log-probabilities."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conformance.world import Task
from tiny import make_llama, make_tokenizer
from torch import Tensor, nn

from luthier.core.component import build
from luthier.core.contracts import Objective, Row
from luthier.engine.step import accumulate
from luthier.models.roles import Models, role_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    trl = pytest.importorskip("trl")

SETTINGS = {"rewards": [{"length": {"words": 6}}], "answers": 4, "max_new_tokens": 10, "passes": 2}
COMMON = {"num_generations": 4, "max_completion_length": 10, "temperature": 1.0, "per_device_train_batch_size": 4}


def rolled(name: str, **changes: Any) -> Task:
    """The conformance suite's rollout, its reference moved away from what answered."""
    objective = build("objectives", {name: {**SETTINGS, **changes}})
    assert isinstance(objective, Objective)
    task = Task.of(objective)
    rows = []
    for number, row in enumerate(task.rows):
        fields = dict(row.fields)
        fields["sampled"] = fields.get("old", fields["sampled"])  # which differ by rounding
        if "reference" in fields:
            noise = 0.3 * np.random.default_rng(number).standard_normal(fields["old"].shape)
            fields["reference"] = (fields["old"] + noise * (fields["old"] != 0)).astype(np.float32)
        rows.append(replace(row, fields=fields))
    return replace(task, rows=rows)


def pieces(row: Row) -> tuple[list[int], list[list[int]]]:
    shared = len(row.ids) - sum(row.branches)
    ends = np.cumsum(row.branches) + shared
    return row.ids[: shared + 1].tolist(), [
        row.ids[end - length + 1 : end].tolist() for end, length in zip(ends, row.branches, strict=True)
    ]


def inputs_of(task: Task) -> dict[str, Tensor]:
    """The rollout as TRL's trainers hold it: prompts padded on the left, answers on the right."""
    known = [(prompt, answer) for prompt, answers in map(pieces, task.rows) for answer in answers]
    wide, longest = max(len(prompt) for prompt, _ in known), 10
    prompts = torch.tensor([[0] * (wide - len(prompt)) + prompt for prompt, _ in known])
    seen = torch.tensor([[0] * (wide - len(prompt)) + [1] * len(prompt) for prompt, _ in known])
    answers = torch.tensor([answer + [0] * (longest - len(answer)) for _, answer in known])
    mask = torch.tensor([[1] * len(answer) + [0] * (longest - len(answer)) for _, answer in known])

    def field(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([row.fields[name] for row in task.rows]))

    found = {
        "prompt_ids": prompts,
        "prompt_mask": seen,
        "completion_ids": answers,
        "completion_mask": mask,
        "advantages": field("advantages"),
        "old_per_token_logps": field("old"),
        "old_logps": field("old").sum(-1),
        "num_items_in_batch": mask.sum(),
    }
    return found | ({"ref_per_token_logps": field("reference")} if "reference" in task.rows[0].fields else {})


def trainer_of(kind: str, folder: Path, model: nn.Module, **settings: Any) -> Any:
    from datasets import Dataset

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = getattr(trl, f"{kind}Config")(
            output_dir=str(folder),
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
            **COMMON,
            **settings,
        )
        return getattr(trl, f"{kind}Trainer")(
            model,
            reward_funcs=[lambda completions, **more: [0.0] * len(completions)],
            args=config,
            train_dataset=Dataset.from_list([{"prompt": "The wolf"}] * 4),
            processing_class=make_tokenizer(template=None),
        )


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("name", "ours", "kind", "theirs"),
    [
        ("grpo", {"kl": 0.3, "divergence": "k3"}, "GRPO", {"loss_type": "grpo", "beta": 0.3}),
        ("grpo", {"average": "token", "clip_high": 0.28}, "GRPO", {"loss_type": "dapo", "epsilon_high": 0.28}),
        (
            "grpo",
            {"average": "constant", "scale": "none", "clip_low": 0.1},
            "GRPO",
            {"loss_type": "dr_grpo", "epsilon": 0.1, "epsilon_high": 0.2},
        ),
        ("rloo", {"clip_high": 0.3}, "RLOO", {"epsilon": 0.2, "epsilon_high": 0.3}),
    ],
    ids=["grpo", "dapo", "dr-grpo", "rloo"],
)
def test_a_step_gives_the_loss_and_gradient_of_trls_trainer(
    name: str, ours: dict[str, Any], kind: str, theirs: dict[str, Any], tmp_path: Path
) -> None:
    """Some tokens are clipped and some are not, and the step is cut in two."""
    theirs = dict(theirs)
    task, model, other = rolled(name, **ours), make_llama(seed=1), make_llama(seed=1)
    beta = theirs.pop("beta", 0.0)  # given here, it would have a reference loaded by the name of a model
    trainer = trainer_of(kind, tmp_path, other, beta=0.0, **theirs)
    trainer.beta = beta
    trainer.args.use_bias_correction_kl = False  # as the paper has it
    trainer.model.eval()
    result = accumulate(task.objective, (), Models(role_of(model, 0)), [task.batch(0, 1), task.batch(2, 3, 4, 5)])
    assert 0 < result.figures["clipped"] < 0.9
    wanted = trainer._compute_loss(trainer.model, inputs_of(task))
    wanted.backward()
    assert result.loss == pytest.approx(wanted.item(), rel=3e-6, abs=3e-6)
    mine, found = gradients(model), gradients(trainer.model)
    largest = max(float(gradient.abs().max()) for gradient in found.values())
    assert largest > 0
    assert mine.keys() == found.keys()
    for key, gradient in found.items():
        torch.testing.assert_close(mine[key], gradient, rtol=0, atol=1e-5 * largest, msg=key)


def test_a_sampler_that_is_not_the_trainer_is_corrected_for_as_trl_does(tmp_path: Path) -> None:
    """Its log-probabilities stray by half a nat a token: some of the weights reach their limit of 1.5."""
    task = rolled("grpo", average="token", sampler_cap=1.5)
    rows = []
    for number, row in enumerate(task.rows):
        old = row.fields["old"]
        noise = 0.5 * np.random.default_rng(10 + number).standard_normal(old.shape).astype(np.float32)
        rows.append(replace(row, fields={**row.fields, "sampled": old + noise * (old != 0)}))
    task = replace(task, rows=rows)
    model, other = make_llama(seed=1), make_llama(seed=1)
    trainer = trainer_of("GRPO", tmp_path, other, beta=0.0, loss_type="dapo")
    trainer.use_vllm = trainer.vllm_importance_sampling_correction = True
    trainer.model.eval()
    inputs = inputs_of(task)
    apart = torch.from_numpy(np.concatenate([row.fields["old"] - row.fields["sampled"] for row in rows]))
    weights = apart.exp().clamp(max=1.5)
    assert 0.05 < (weights[inputs["completion_mask"] > 0] == 1.5).float().mean() < 0.5
    result = accumulate(task.objective, (), Models(role_of(model, 0)), [task.batch(0, 1), task.batch(2, 3, 4, 5)])
    wanted = trainer._compute_loss(trainer.model, {**inputs, "importance_sampling_ratio": weights})
    wanted.backward()
    assert result.loss == pytest.approx(wanted.item(), rel=3e-6, abs=3e-6)
    assert result.figures["sampler_gap"] == pytest.approx(0.4, abs=0.1)
    mine, found = gradients(model), gradients(trainer.model)
    largest = max(float(gradient.abs().max()) for gradient in found.values())
    for key, gradient in found.items():
        torch.testing.assert_close(mine[key], gradient, rtol=0, atol=1e-5 * largest, msg=key)


def test_with_one_step_a_rollout_rloo_is_reinforce_over_the_samplers_draws() -> None:
    """Each answer's advantage times the slope of its log-probability, by plain torch; the sampler was another model, so
    that an answer counts as much as training finds it likelier, up to twice.
    """
    task, model, other = rolled("rloo", passes=1), make_llama(seed=1), make_llama(seed=1)
    assert "old" not in task.rows[0].fields
    wanted, weights = torch.zeros(()), []
    for row in task.rows:
        prompt, answers = pieces(row)
        for number, answer in enumerate(answers):
            logits = other(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            said = logits.log_softmax(-1).gather(-1, torch.tensor(answer)[:, None]).sum()
            weights.append(min(2.0, float((said.detach() - row.fields["sampled"][number].sum()).exp())))
            wanted = wanted - weights[-1] * float(row.fields["advantages"][number]) * said / (4 * len(task.rows))
    assert 2.0 in weights
    assert min(weights) < 0.9
    wanted.backward()
    accumulate(task.objective, (), Models(role_of(model, 0)), [task.batch(0, 1), task.batch(2, 3, 4, 5)])
    mine, found = gradients(model), gradients(other)
    largest = max(float(gradient.abs().max()) for gradient in found.values())
    assert largest > 0
    for key, gradient in found.items():
        torch.testing.assert_close(mine[key], gradient, rtol=0, atol=2e-5 * largest, msg=key)
