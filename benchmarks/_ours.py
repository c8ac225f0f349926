"""Our side of the training benchmarks: the engine's fit, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks._workload import RANK, WARM, Clock, Example, rows_in_order, worker


def steps_of(rows: Sequence[Example], budget: int) -> list[list[int]]:
    """Positions of each step's rows, in order: WARM rows first, then whole rows up to the budget of tokens."""
    steps, filled = [list(range(WARM)), []], 0
    for position in range(WARM, len(rows)):
        if steps[-1] and filled + len(rows[position].ids) > budget:
            steps.append([])
            filled = 0
        steps[-1].append(position)
        filled += len(rows[position].ids)
    return steps


def run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """settings: model (a folder), kind, rows, batch (tokens), alike (bf16 weights, allocator as it is) or not."""
    import numpy as np
    import torch

    from luthier.core.contracts import Row
    from luthier.core.recipe import Machine, Phase
    from luthier.engine.device import choose, keep_memory
    from luthier.engine.fit import Fit, fit
    from luthier.models.load import load_model
    from luthier.models.roles import Models, role_of

    if not settings["alike"]:
        keep_memory()
    compute = choose(Machine(device="cpu", dtype="bfloat16" if settings["alike"] else "auto"))
    loaded = load_model(settings["model"], "causal_lm", dtype=compute.dtype, device=compute.device, seed=1)
    body = sum(value.numel() for name, value in loaded.model.named_parameters() if "embed" not in name)
    adaptation = {"lora": {"rank": RANK}} if settings["kind"] == "lora" else "full"
    phase = Phase(objective="causal_lm", adaptation=adaptation, per_step={"tokens": settings["batch"]})
    model = phase.adaptation.apply(loaded.model)
    rows = rows_in_order(settings["rows"])
    encoded = []
    for number, row in enumerate(rows):
        learned = np.arange(len(row.ids)) >= len(row.ids) - row.learned
        encoded.append(Row(f"row-{number}", np.array(row.ids, dtype=np.int64), learned))
    clock, order = Clock(), steps_of(rows, settings["batch"])

    def log(event: str, **values: Any) -> None:
        if event == "step":
            clock.step(len(order[values["step"] - 1]), values["loss"])

    fit(
        Fit(
            models=Models(role_of(model, loaded.tokenizer.pad_token_id)),
            objective=phase.objective,
            adaptation=phase.adaptation,
            phase=phase,
            rows=encoded,
            device=torch.device("cpu"),
            log=log,
            order=order,
        )
    )
    return clock.result(settings["kind"], rows, body, str(compute.dtype).removeprefix("torch."))


if __name__ == "__main__":
    worker(run)
