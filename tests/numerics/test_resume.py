"""2k steps are k steps, an interruption, and k steps: weights, optimizer state and losses to the last bit."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_runs import uneven_rows
from tiny import make_bert, make_llama

from luthier.core.contracts import Row, Term
from luthier.core.errors import Interrupted, MachineError, TrainingDiverged
from luthier.core.files import sha256_of
from luthier.core.recipe import Phase
from luthier.engine.fit import Fit, FitResult, fit
from luthier.models.roles import Models, role_of

ADAPTATIONS: dict[str, Any] = {
    "full": "full",
    "lora": {"lora": {"rank": 4, "dropout": 0.1}},
    "gradual": {"frozen": {"train": "last:2", "gradual": 0.8, "layer_decay": 0.5}},
}


def class_rows(count: int = 24) -> list[Row]:
    found = []
    for i, one in enumerate(uneven_rows(count)):
        silent = np.zeros(len(one.ids), dtype=np.bool_)
        found.append(Row(one.id, one.ids, silent, fields={"label": np.asarray(i % 3)}))
    return found


def settings(objective: str, adaptation: str, **changes: Any) -> Phase:
    values: dict[str, Any] = {
        "objective": objective,
        "adaptation": ADAPTATIONS[adaptation],
        "optimizer": {"adamw": {"lr": 3e-3, "weight_decay": 0.01}},
        "steps": 8,
        "per_step": {"rows": 5},
        "watch": {"every": 2},
        "checkpoints": {"every": 3, "keep": 2},
        "embedding_noise": 5.0,
    }
    return Phase.model_validate(values | changes)


def job(phase: Phase, folder: Path | None, *, dtype: torch.dtype = torch.float32, **changes: Any) -> Fit:
    torch.manual_seed(0)
    language = phase.objective.task == "causal_lm"
    dropout = {"attention_dropout": 0.1} if language else {}
    model = (make_llama(**dropout) if language else make_bert()).to(dtype)
    model = phase.adaptation.apply(model)
    rows = uneven_rows() if language else class_rows()
    values: dict[str, Any] = {
        "models": Models(role_of(model, 0)),
        "objective": phase.objective,
        "adaptation": phase.adaptation,
        "phase": phase,
        "rows": rows[:16],
        "validation": rows[16:],
        "folder": folder,
        "micro_tokens": 24,
    }
    return Fit(**(values | changes))


def stop_after(steps: int) -> Callable[[], bool]:
    asked = iter(range(10**6))
    return lambda: next(asked) + 1 >= steps


def trained(one: Fit) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in one.models.policy.model.state_dict().items()}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def newest(folder: Path) -> dict[str, str]:
    last = max(folder.glob("step-*"))
    return {file.name: sha256_of(file) for file in sorted(last.glob("*.safetensors"))} | {"step": last.name}


def interrupted(phase: Phase, folder: Path, after: int, **changes: Any) -> FitResult:
    """The fit stopped once after `after` steps, then given again until it is done."""
    with pytest.raises(Interrupted):
        fit(job(phase, folder, stop=stop_after(after), **changes))
    return fit(job(phase, folder, **changes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("adaptation", list(ADAPTATIONS))
@pytest.mark.parametrize("objective", ["causal_lm", "classify"])
def test_two_k_steps_are_k_and_k(objective: str, adaptation: str, dtype: torch.dtype, tmp_path: Path) -> None:
    phase = settings(objective, adaptation)
    whole = job(phase, tmp_path / "whole", dtype=dtype)
    straight = fit(whole)
    with pytest.raises(Interrupted, match="after step 4 of 8"):
        fit(job(phase, tmp_path / "half", dtype=dtype, stop=stop_after(4)))
    rest = job(phase, tmp_path / "half", dtype=dtype)
    torch.manual_seed(4711)  # what this process drew before must not matter
    result = fit(rest)
    assert_equal(trained(whole), trained(rest))
    assert newest(tmp_path / "whole") == newest(tmp_path / "half")
    assert result.losses == straight.losses[4:]
    for field in ("steps", "best_step", "best_loss", "stopped", "tokens", "supervised"):
        assert getattr(result, field) == getattr(straight, field), field


def test_one_model_may_be_trained_by_one_fit_after_another() -> None:
    first = job(settings("causal_lm", "full"), None, dtype=torch.bfloat16)
    fit(first)
    before = trained(first)
    again = fit(replace(first, phase=settings("causal_lm", "full", steps=2), validation=()))
    assert again.steps == 2
    after = trained(first)
    assert any(not torch.equal(value, after[name]) for name, value in before.items())


def test_dropout_and_noise_are_really_on() -> None:
    """Otherwise the equality above would say nothing about random draws."""
    loud = fit(job(settings("causal_lm", "full"), None))
    calm = fit(job(settings("causal_lm", "full", embedding_noise=0.0), None))
    assert loud.losses[0] != calm.losses[0]
    other = fit(job(settings("causal_lm", "full", embedding_noise=0.0), None, seed=2))
    assert calm.losses[0] != other.losses[0]


def test_an_interruption_after_every_step_ends_in_the_same(tmp_path: Path) -> None:
    phase = settings("causal_lm", "lora")
    whole = job(phase, tmp_path / "whole")
    fit(whole)
    for _ in range(phase.steps - 1):
        with pytest.raises(Interrupted):
            fit(job(phase, tmp_path / "bits", stop=lambda: True))
    rest = job(phase, tmp_path / "bits")
    fit(rest)
    assert_equal(trained(whole), trained(rest))


@pytest.mark.parametrize("after", [1, 5])
def test_early_stopping_stops_at_the_same_step(after: int, tmp_path: Path) -> None:
    """A rate that ruins the model: validation gets worse at once, and the best weights are the result."""
    phase = settings(
        "causal_lm",
        "full",
        optimizer={"adamw": {"lr": 0.5}},
        steps=30,
        watch={"every": 2, "patience": 3},
        clip=None,
    )
    whole = job(phase, tmp_path / "whole")
    straight = fit(whole)
    assert straight.steps < 30
    assert "3 validations" in straight.stopped
    assert straight.best_step == straight.steps - 6
    rest = interrupted(phase, tmp_path / "half", after)
    assert (rest.steps, rest.best_step, rest.stopped) == (straight.steps, straight.best_step, straight.stopped)
    again = job(phase, tmp_path / "half")
    assert fit(again).losses == (), "a stopped fit that is given again makes no further step"
    assert_equal(trained(whole), trained(again))


def test_the_result_is_the_best_checkpoint_and_not_the_last(tmp_path: Path) -> None:
    ruin = {"optimizer": {"adamw": {"lr": 0.5}}, "clip": None}
    best = job(settings("causal_lm", "full", **ruin), tmp_path / "best")
    result = fit(best)
    assert result.best_step is not None
    assert result.best_step < 8
    held = load_file(tmp_path / "best" / "best" / "weights.safetensors")
    now = dict(best.models.policy.model.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in held.items())
    last = job(settings("causal_lm", "full", watch={"every": 2, "keep_best": False}, **ruin), None)
    fit(last)
    assert not torch.equal(last.models.policy.model.model.norm.weight, best.models.policy.model.model.norm.weight)


def test_a_torn_newest_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    phase = settings("causal_lm", "full")
    whole = job(phase, tmp_path / "whole")
    fit(whole)
    with pytest.raises(Interrupted):
        fit(job(phase, tmp_path / "torn", stop=stop_after(7)))
    torn = tmp_path / "torn" / "step-00000007" / "optimizer.safetensors"
    torn.write_bytes(torn.read_bytes()[:-100])
    said: list[Any] = []
    rest = job(phase, tmp_path / "torn", log=lambda event, **values: said.append((event, values)))
    result = fit(rest)
    assert len(result.losses) == 2, "it goes on after step 6"
    assert any(values.get("text") == "goes on after step 6" for _, values in said)
    assert_equal(trained(whole), trained(rest))


CHANGES: dict[str, Callable[[Fit], Fit]] = {
    "a token of a row": lambda one: replace(one, rows=_other_token(list(one.rows))),
    "a mark of a row": lambda one: replace(one, rows=_other_mark(list(one.rows))),
    "a weight of the model": lambda one: _nudged(one),
    "the seed": lambda one: replace(one, seed=2),
    "the rate": lambda one: job(settings("causal_lm", "full", optimizer={"adamw": {"lr": 1e-3}}), one.folder),
    "the validation rows": lambda one: replace(one, validation=one.validation[:-1]),
}


def _other_token(rows: list[Row]) -> list[Row]:
    ids = rows[3].ids.copy()
    ids[0] = 4 if ids[0] != 4 else 5
    return [*rows[:3], Row(rows[3].id, ids, rows[3].supervised), *rows[4:]]


def _other_mark(rows: list[Row]) -> list[Row]:
    marks = rows[3].supervised.copy()
    marks[-1] = not marks[-1]
    return [*rows[:3], Row(rows[3].id, rows[3].ids, marks), *rows[4:]]


def _nudged(one: Fit) -> Fit:
    with torch.no_grad():
        one.models.policy.model.model.norm.weight[0].add_(1e-3)
    return one


@pytest.mark.parametrize("change", list(CHANGES))
def test_nothing_is_resumed_after_a_change(change: str, tmp_path: Path) -> None:
    """Rows keep their ids and lengths here: what counts is what is in them."""
    phase = settings("causal_lm", "full")
    fit(job(phase, tmp_path / "c"))
    changed = CHANGES[change](job(phase, tmp_path / "c"))
    assert len(fit(changed).losses) == 8
    fresh = CHANGES[change](job(phase, tmp_path / "fresh"))
    fit(fresh)
    assert_equal(trained(changed), trained(fresh))


def test_an_older_fits_later_checkpoints_do_not_push_out_the_new_ones(tmp_path: Path) -> None:
    fit(job(settings("causal_lm", "full", steps=15), tmp_path / "c"))
    short = settings("causal_lm", "full", steps=9)
    with pytest.raises(Interrupted):
        fit(job(short, tmp_path / "c", stop=stop_after(4)))
    assert sorted(path.name for path in (tmp_path / "c").glob("step-*")) == ["step-00000003", "step-00000004"]
    assert len(fit(job(short, tmp_path / "c")).losses) == 5


# ---- what stops a fit ------------------------------------------------------------------------------------------------


class Faulty:
    """The objective, with a fault at chosen calls of its loss; what it is asked for otherwise is the real one's."""

    def __init__(self, inner: Any, fault: Callable[[int, Any, Any], Any]) -> None:
        self.inner, self.fault, self.calls = inner, fault, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def loss(self, models: Any, batch: Any) -> Any:
        self.calls += 1
        return self.fault(self.calls, self.inner.loss(models, batch), batch)


def spoiled(value: float) -> Callable[[int, Any, Any], Any]:
    def fault(call: int, terms: Any, batch: Any) -> Any:
        if "row-3" not in batch.rows or not terms[0].totals.requires_grad:
            return terms
        return [Term(term.name, term.totals * value, term.weight) for term in terms]

    return fault


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_step_and_rows_and_changes_nothing(value: float, tmp_path: Path) -> None:
    phase = settings("causal_lm", "full", checkpoints={"every": 1, "keep": 1}, watch={"keep_best": False})
    order = [[0, 1, 2], [4, 5, 6], [3, 7, 8], [9, 10]]
    sound = job(phase, None, order=order[:2])
    fit(sound)
    bad = job(phase, tmp_path / "c", order=order)
    bad.objective = Faulty(bad.objective, spoiled(value))
    with pytest.raises(TrainingDiverged) as stopped:
        fit(bad)
    problem = stopped.value.problems[0]
    assert stopped.value.exit_code == 2
    assert f"the loss is {value}" in problem.found
    assert "step 3" in (problem.where or "")
    assert "'row-3', 'row-7', 'row-8'" in (problem.where or "")
    assert "learning rate" in (problem.remedy or "")
    assert newest(tmp_path / "c")["step"] == "step-00000002"
    assert all(bool(value.isfinite().all()) for value in trained(bad).values())
    mended = job(phase, tmp_path / "c", order=order)
    assert len(fit(mended).losses) == 2, "with the fault gone, the same call goes on from the checkpoint"


def test_a_gradient_that_is_not_finite_stops_before_the_weights_move() -> None:
    phase = settings("causal_lm", "full", watch={"keep_best": False})
    bad = job(phase, None)
    start = trained(bad)
    bad.models.policy.model.model.norm.weight.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(TrainingDiverged, match="gradient's norm is nan"):
        fit(bad)
    assert_equal(start, trained(bad))


def short_of_memory(limit: int) -> Callable[[int, Any, Any], Any]:
    def fault(call: int, terms: Any, batch: Any) -> Any:
        if batch.ids.numel() > limit:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory")
        return terms

    return fault


def test_out_of_memory_halves_the_micro_batch_and_ends_in_the_same_weights() -> None:
    phase = settings("causal_lm", "full", embedding_noise=0.0, optimizer={"sgd": {"lr": 0.1}})
    roomy = job(phase, None, micro_tokens=128)
    plain = fit(_still(roomy))
    said: list[Any] = []
    tight = job(phase, None, micro_tokens=128, log=lambda event, **values: said.append((event, values)))
    tight.objective = Faulty(tight.objective, short_of_memory(40))
    result = fit(_still(tight))
    warnings = [values["text"] for event, values in said if event == "warning"]
    assert warnings == [
        "out of memory at step 1: micro-batches of 43 tokens from here on",
        "out of memory at the validation after step 2: micro-batches of 20 tokens from here on",
    ]
    assert result.micro_tokens == 20
    assert result.losses == pytest.approx(plain.losses, rel=2e-6)
    wanted = trained(roomy)
    for name, value in trained(tight).items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-5, atol=1e-6)


def _still(one: Fit) -> Fit:
    """Without the model's dropout, whose draws follow the shapes of micro-batches."""
    for module in one.models.policy.model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0
    return one


def test_out_of_memory_in_validation_is_answered_the_same_way() -> None:
    def fault(call: int, terms: Any, batch: Any) -> Any:
        held_out = not terms[0].totals.requires_grad
        return short_of_memory(40)(call, terms, batch) if held_out else terms

    said: list[Any] = []
    phase = settings("causal_lm", "full", watch={"every": 8, "keep_best": False})
    roomy = job(phase, None, micro_tokens=128)
    plain = fit(roomy)
    tight = job(phase, None, micro_tokens=128, log=lambda event, **values: said.append((event, values)))
    tight.objective = Faulty(tight.objective, fault)
    result = fit(tight)
    assert [values["text"] for event, values in said if event == "warning"] == [
        f"out of memory at the validation after step 8: micro-batches of {n} tokens from here on" for n in (43, 20)
    ]
    assert result.losses == plain.losses


def test_a_single_row_that_does_not_fit_is_an_error_of_the_machine() -> None:
    phase = settings("causal_lm", "full")
    tight = job(phase, None, micro_tokens=128)
    tight.objective = Faulty(tight.objective, short_of_memory(12))
    with pytest.raises(MachineError, match="single row") as stopped:
        fit(tight)
    assert "max_length" in (stopped.value.problems[0].remedy or "")


def test_a_fault_that_is_none_of_memory_is_not_hidden() -> None:
    def fault(call: int, terms: Any, batch: Any) -> Any:
        raise RuntimeError("something else")

    bad = job(settings("causal_lm", "full"), None)
    bad.objective = Faulty(bad.objective, fault)
    with pytest.raises(RuntimeError, match="something else"):
        fit(bad)


def test_the_micro_batch_that_fits_is_kept_when_a_run_goes_on(tmp_path: Path) -> None:
    phase = settings("causal_lm", "full")
    tight = job(phase, tmp_path / "c", micro_tokens=128, stop=stop_after(4))
    tight.objective = Faulty(tight.objective, short_of_memory(40))
    with pytest.raises(Interrupted):
        fit(tight)
    result = fit(job(phase, tmp_path / "c", micro_tokens=128))
    assert result.micro_tokens == 20


@pytest.mark.parametrize("micro_tokens", [128, 4096])
def test_each_smaller_micro_batch_is_told_to_whoever_remembers(micro_tokens: int) -> None:
    """They are halved from the 87 tokens of the step, whatever the limit allows: each attempt is a smaller one."""
    learned: list[int] = []
    tight = job(settings("causal_lm", "full"), None, micro_tokens=micro_tokens, learned=learned.append)
    tight.objective = Faulty(tight.objective, short_of_memory(40))
    fit(tight)
    assert learned == [43, 20]


def test_a_fit_that_was_killed_before_its_first_checkpoint_begins_as_it_had_begun(tmp_path: Path) -> None:
    """Its first attempt met the limit and had it remembered; its twin's first steps were not cut that small."""
    phase = settings("causal_lm", "full")

    def twin(folder: str, micro_tokens: int, **changes: Any) -> tuple[Fit, FitResult]:
        one = job(phase, tmp_path / folder, micro_tokens=micro_tokens, **changes)
        return one, fit(one)

    def kill(event: str, **values: Any) -> None:
        if event == "step":
            raise KeyboardInterrupt

    never, result = twin("never", 128)
    with pytest.raises(KeyboardInterrupt):
        twin("killed", 128, log=kill)
    said: list[str] = []
    again, resumed = twin("killed", 16, log=lambda event, **values: said.append(values.get("text", "")))
    assert "micro-batches of 128 tokens, as before it stopped" in said
    assert (resumed.micro_tokens, resumed.losses) == (128, result.losses)
    wanted = trained(never)
    assert all(torch.equal(value, wanted[name]) for name, value in trained(again).items())
    _, other = twin("other", 16)
    assert other.losses != result.losses


def test_another_fit_in_the_folder_begins_anew(tmp_path: Path) -> None:
    for seed, micro_tokens in ((1, 128), (2, 16)):
        assert fit(job(settings("causal_lm", "full"), tmp_path, seed=seed, micro_tokens=micro_tokens)).micro_tokens == (
            micro_tokens
        )


@pytest.mark.parametrize("steps", [0, 4])
def test_a_limit_that_the_recipe_lowers_holds_for_a_fit_that_goes_on(tmp_path: Path, steps: int) -> None:
    """The remedy where memory ran out must be one, with a checkpoint or none yet."""
    phase = settings("causal_lm", "full")
    first = job(phase, tmp_path, micro_tokens=128, most_tokens=128, stop=stop_after(steps))
    if not steps:
        first.objective = Faulty(first.objective, short_of_memory(1))
    with pytest.raises(Interrupted if steps else MachineError):
        fit(first)
    assert fit(job(phase, tmp_path, micro_tokens=24, most_tokens=24)).micro_tokens == 24


def test_a_torn_record_of_the_beginning_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "begun.json").write_text('{"depends": "')
    result = fit(job(settings("causal_lm", "full"), tmp_path, micro_tokens=64))
    assert json.loads((tmp_path / "begun.json").read_text())["micro_tokens"] == result.micro_tokens == 64
