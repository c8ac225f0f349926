"""One fit: the loop from encoded rows to trained weights.

Everything random in a step comes from (seed, step), so a resumed fit needs no generator's state: rows are a pure
function of the step's number, and torch is seeded before each step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..core.contracts import Batch, Row
from ..core.errors import Interrupted, MachineError, TrainingDiverged, out_of_memory
from ..data.stream import Stream
from ..functional.packing import micro_batches, pack
from .ahead import Ahead
from .average import Average
from .checkpoint import Checkpoint, Checkpoints
from .device import release_memory
from .draws import embedding_noise, seed_of
from .identity import identity_of
from .job import Fit, FitResult
from .meter import Meter, peak_memory_gb
from .optimize import Stepper, own_groups
from .rollout import Rollouts
from .step import StepLoss, accumulate, measure
from .watch import Watcher

__all__ = ["Fit", "FitResult", "fit"]

VALIDATIONS = 10


def fit(job: Fit) -> FitResult:
    """Trains; the model holds the result afterwards (the best checkpoint's weights where the phase asks for it).

    Errors: TrainingDiverged with step and rows; MachineError when even one row does not fit in memory; Interrupted.
    """
    return _Fitting(job).run()


class _Fitting:
    """The state of a running fit, in one place so that it can be written and read back whole."""

    def __init__(self, job: Fit) -> None:
        self.job = job
        phase = job.phase
        room = job.rollouts.room if job.rollouts else 0
        self.lengths = [len(row.ids) + room for row in job.rows]
        self.stream = Stream(self.lengths, phase.per_step, job.seed, [row.repeat for row in job.rows])
        self.total = self._total_steps()
        self.every = phase.watch.every or max(1, self.total // VALIDATIONS)
        self.save_every = phase.checkpoints.every or self.every
        if job.rollouts:  # nothing of a rollout is kept: between two of them a fit is whole
            self.every, self.save_every = (
                math.ceil(each / job.rollouts.steps) * job.rollouts.steps for each in (self.every, self.save_every)
            )
        self.watcher = Watcher(phase.watch.patience)
        self.meter = Meter()
        self.micro_tokens = job.micro_tokens
        self.depends = identity_of(
            job.models.policy.model,
            job.rows,
            job.validation,
            phase,
            job.seed,
            job.order,
            job.rollouts.rewarded if isinstance(job.rollouts, Rollouts) else "",
        )
        self.stepper = self._make_stepper()
        decay = job.objective.averaging
        self.average = None if decay is None else Average(job.models.policy, self.stepper, decay)
        self.models = self.average.beside(job.models) if self.average else job.models
        self.checkpoints = Checkpoints(job.folder, phase.checkpoints.keep) if job.folder else None
        self.ahead = Ahead(self._rows_of, self._batches, self.total)
        self.validation = self._validation_batches()
        self.losses: list[float] = []
        self.best_weights: dict[str, torch.Tensor] | None = None

    def _total_steps(self) -> int:
        if self.job.order is not None:
            return len(self.job.order)
        passes = self.job.rollouts.passes if self.job.rollouts else 1
        return self.job.phase.steps or self.stream.steps_in(self.job.phase.epochs or 1.0) * passes

    def _make_stepper(self) -> Stepper:
        job, phase = self.job, self.job.phase
        lr = phase.optimizer.lr or job.adaptation.usual_lr
        return Stepper(
            phase.optimizer,
            phase.schedule,
            [*job.adaptation.groups(job.models.policy.model), *own_groups(job.objective, job.models.own)],
            lr=lr,
            total=self.total,
            clip=phase.clip,
        )

    # ---- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> FitResult:
        step, stopped = self._resume()
        model = self.job.models.policy.model
        model.train()
        try:
            with embedding_noise(self.job.models.policy, self.job.phase.embedding_noise):
                while step < self.total and not stopped:
                    self._one_step(step)
                    step += 1
                    stopped = self._after(step)
        finally:
            model.eval()
            self.ahead.close()
            self.stepper.release()
        best = self._take_best()
        if self.average and not best:
            self.stepper.load_weights(self.average.weights())
        return FitResult(
            steps=step,
            losses=tuple(self.losses),
            tokens=self.meter.tokens,
            supervised=self.meter.supervised,
            seconds=self.meter.seconds,
            best_step=self.watcher.best_step if best else None,
            best_loss=self.watcher.best if best else None,
            stopped=stopped or "all steps done",
            micro_tokens=self.micro_tokens,
            parts=dict(self.meter.parts),
        )

    def _one_step(self, step: int) -> None:
        job = self.job
        self.meter.start()
        job.adaptation.at(step / max(1, self.total), job.models.policy.model)
        with self.meter.part("data"):
            chosen = self._rows_of(step)
        answered: Sequence[Row] | None = None
        if job.rollouts:
            with self.meter.part("rollout"):
                answered = job.rollouts.rows(step, self._prompts_of, self.micro_tokens)
        loss = self._gradients(step, chosen, answered)
        with self.meter.part("optimizer"):
            norm = self.stepper.gradient_norm()
            self._refuse_nonfinite(step, loss, norm, chosen)
            lr = self.stepper.step(step)
            if self.average:
                self.average.follow(step)
        seconds = self.meter.stop(loss.tokens, loss.supervised)
        self.losses.append(loss.loss)
        terms = {name: value for name, value in loss.terms.items() if len(loss.terms) > 1}
        figures = {**(job.rollouts.figures if job.rollouts else {}), **loss.figures}
        job.log(
            "step",
            phase=job.phase.name,
            step=step + 1,
            total=self.total,
            loss=loss.loss,
            lr=lr,
            grad_norm=norm,
            tokens=self.meter.tokens,
            tokens_per_s=round(self.meter.rate, 1),
            memory_gb=round(peak_memory_gb(job.device), 3),
            seconds={name: round(spent, 4) for name, spent in seconds.items()},
            **({"terms": terms} if terms else {}),
            **({"figures": figures} if figures else {}),
        )

    def _gradients(self, step: int, chosen: Sequence[int], answered: Sequence[Row] | None) -> StepLoss:
        """The step's gradients; out of memory halves the micro-batch and starts the step again."""
        rows = self.job.rows if answered is None else answered
        places = chosen if answered is None else range(len(answered))
        lengths = self.lengths if answered is None else [len(row.ids) for row in answered]
        while True:
            torch.manual_seed(seed_of(self.job.seed, step))
            try:
                with self.meter.part("data"):
                    if answered is None:
                        batches = self.ahead.take(step, chosen, self.micro_tokens)
                    else:
                        batches = self._packed(micro_batches(places, lengths, self.micro_tokens), rows)
                return accumulate(self.job.objective, self.job.penalties, self.models, batches, self.meter)
            except (RuntimeError, MemoryError) as error:
                cut = micro_batches(places, lengths, self.micro_tokens)
                sizes = [[lengths[index] for index in part] for part in cut]
                self._shrink(error, f"step {step + 1}", sizes)
            self.stepper.zero()

    def _rows_of(self, step: int) -> list[int]:
        number = self.job.rollouts.batch_number(step) if self.job.rollouts else step
        return list(self.job.order[number] if self.job.order is not None else self.stream.rows_of(number))

    def _prompts_of(self, number: int) -> list[Row]:
        return [self.job.rows[index] for index in self.stream.rows_of(number)]

    def _batches(self, step: int, chosen: Sequence[int], micro_tokens: int) -> list[Batch]:
        cut = micro_batches(chosen, self.lengths, micro_tokens)
        rows, renewal = self.job.rows, self.job.renewal
        if renewal is None:
            return self._packed(cut, rows)
        epoch = self.stream.epoch_of(step)
        return [pack([renewal(rows[index], epoch) for index in part]).to(self.job.device) for part in cut]

    def _packed(self, cut: Sequence[Sequence[int]], rows: Sequence[Row]) -> list[Batch]:
        return [pack([rows[index] for index in part]).to(self.job.device) for part in cut]

    def _refuse_nonfinite(self, step: int, loss: StepLoss, norm: float, chosen: Sequence[int]) -> None:
        if math.isfinite(loss.loss) and math.isfinite(norm):
            return
        self.stepper.zero()
        rows = ", ".join(f"'{self.job.rows[index].id}'" for index in chosen[:5])
        more = f" and {len(chosen) - 5} more" if len(chosen) > 5 else ""
        what = f"the loss is {loss.loss}" if not math.isfinite(loss.loss) else f"the gradient's norm is {norm}"
        raise TrainingDiverged(
            f"{what}; nothing was changed by this step",
            where=f"phase '{self.job.phase.name}', step {step + 1}, rows {rows}{more}",
            expected="a finite number",
            remedy="lower the learning rate, lengthen the warmup, clip gradients, or set machine.dtype=float32; "
            "then look at the rows named",
        )

    # ---- between steps -----------------------------------------------------------------------------------------------

    def _after(self, step: int) -> str:
        """Validation, checkpoint and stops after `step` steps; why training ends here, or an empty text."""
        last = step == self.total
        stopped = ""
        if self.validation and (step % self.every == 0 or last) and self._validate(step):
            stopped = (
                f"no better validation loss in {self.watcher.patience} validations" if self.watcher.exhausted else ""
            )
        if self.checkpoints and (step % self.save_every == 0 or last or stopped):
            self._save(step, stopped)
        whole = self.job.rollouts is None or step % self.job.rollouts.steps == 0
        if whole and self.job.stop() and not (last or stopped):
            if self.checkpoints:
                self._save(step, stopped)
            raise Interrupted(
                f"stopped after step {step} of {self.total} of phase '{self.job.phase.name}'",
                remedy="the same command goes on from here",
            )
        return stopped

    def _validate(self, step: int) -> bool:
        model = self.job.models.policy.model
        model.eval()
        found = self._measured(step)
        model.train()
        better = self.watcher.seen(step, found.loss)
        figures = {"figures": dict(found.figures)} if found.figures else {}
        self.job.log("validation", phase=self.job.phase.name, step=step, loss=found.loss, best=better, **figures)
        if better and self.job.phase.watch.keep_best:
            kept = (self.average or self.stepper).weights()
            self.best_weights = {name: value.cpu().clone() for name, value in kept.items()}
            if self.checkpoints:
                self.checkpoints.write_best(Checkpoint(self.best_weights, {}, {"step": step, "depends": self.depends}))
        return True

    def _measured(self, step: int) -> StepLoss:
        while True:
            try:
                if self.job.rollouts:
                    return self.job.rollouts.measure(self._validation_rows(), self.micro_tokens)
                models = self.average.models if self.average else self.models
                return measure(self.job.objective, models, self.validation)
            except (RuntimeError, MemoryError) as error:
                sizes = [batch.starts.diff().tolist() for batch in self.validation]
                self._shrink(error, f"the validation after step {step}", sizes)

    def _shrink(self, error: BaseException, where: str, sizes: Sequence[Sequence[int]]) -> None:
        """Halves the micro-batch if memory ran out; sizes: the lengths of the rows in each that was tried.

        Errors: any other error again; MachineError where the largest was a single row.
        """
        if not out_of_memory(error):
            raise error
        longest, largest = max(map(max, sizes)), max(map(sum, sizes))
        if largest <= longest:
            raise MachineError(
                f"out of memory with a single row of {longest} tokens in a micro-batch",
                where=f"phase '{self.job.phase.name}', {where}",
                remedy="set max_length lower, choose an adaptation with fewer trained weights, "
                "machine.gradient_checkpointing=true or machine.dtype=bfloat16",
            ) from error
        # From what was there: half of a limit that no micro-batch reached would cut nothing.
        self.micro_tokens = max(longest, min(self.micro_tokens, largest) // 2)
        self.job.learned(self.micro_tokens)
        self.validation = self._validation_batches()
        self.job.log(
            "warning",
            phase=self.job.phase.name,
            text=f"out of memory at {where}: micro-batches of {self.micro_tokens} tokens from here on",
        )

    def _save(self, step: int, stopped: str) -> None:
        assert self.checkpoints is not None
        values = {
            "step": step,
            "depends": self.depends,
            "stopped": stopped,
            "watcher": self.watcher.state(),
            "memory": self.job.rollouts.memory if self.job.rollouts else {},
            "micro_tokens": self.micro_tokens,
            "tokens": self.meter.tokens,
            "supervised": self.meter.supervised,
            "seconds": self.meter.seconds,
            "parts": self.meter.parts,
        }
        average = self.average.weights() if self.average else {}
        folder = self.checkpoints.write(step, Checkpoint(self.stepper.weights(), self.stepper.state(), values, average))
        # Packs of ever different sizes leave holes in the allocator's heap, which would only ever grow.
        release_memory()
        self.job.log("checkpoint", phase=self.job.phase.name, step=step, folder=folder.name)

    def _resume(self) -> tuple[int, str]:
        if self.checkpoints is None:
            return 0, ""
        found, best = self.checkpoints.newest(self.depends), self.checkpoints.best(self.depends)
        if found is not None and found.values["watcher"]["best_step"] >= 0 and self.job.phase.watch.keep_best:
            # Without the weights of the best step so far, the result could only be another one.
            found = found if best is not None else None
            self.best_weights = best.weights if best is not None else None
        for name in self.checkpoints.torn:
            where = f"training goes on after step {found.values['step']}" if found else "training begins anew"
            self.job.log(
                "warning",
                phase=self.job.phase.name,
                text=f"the checkpoint {name} is damaged and was removed; {where}",
            )
        if found is None:
            # Checkpoints of other data, weights or settings would only be taken for newer ones than ours.
            self.checkpoints.clear()
            self._cut(self.checkpoints.begun(self.depends, self.micro_tokens))
            return 0, ""
        values = found.values
        self.stepper.load_weights(found.weights)
        self.stepper.load_state(found.optimizer)
        if self.average:
            self.average.load(found.average)
        self.watcher = Watcher(**values["watcher"])
        if self.job.rollouts:
            self.job.rollouts.memory = dict(values.get("memory", {}))
        self._cut(values["micro_tokens"])
        self.meter = Meter(values["tokens"], values["supervised"], values["seconds"], values["parts"])
        self.job.log("note", phase=self.job.phase.name, text=f"goes on after step {values['step']}")
        return int(values["step"]), str(values["stopped"])

    def _cut(self, began: int) -> None:
        """Micro-batches as this fit began with, or smaller where the recipe has lowered them since."""
        kept = min(began, self.job.most_tokens or began)
        if kept != self.micro_tokens:
            self.job.log(
                "note", phase=self.job.phase.name, text=f"micro-batches of {kept} tokens, as before it stopped"
            )
            self.micro_tokens = kept
            self.validation = self._validation_batches()

    def _take_best(self) -> bool:
        """Puts the best weights into the model; whether there were any."""
        if not (self.validation and self.job.phase.watch.keep_best):
            return False
        if self.best_weights is None:
            return False
        self.stepper.load_weights(self.best_weights)
        return True

    def _validation_batches(self) -> list[Batch]:
        rows = self._validation_rows()
        return self._packed(micro_batches(range(len(rows)), [len(row.ids) for row in rows], self.micro_tokens), rows)

    def _validation_rows(self) -> list[Row]:
        rows, limit = list(self.job.validation), self.job.phase.watch.rows
        if limit is None or limit >= len(rows):
            return rows
        generator = torch.Generator().manual_seed(self.job.seed)
        return [rows[index] for index in sorted(torch.randperm(len(rows), generator=generator)[:limit].tolist())]
