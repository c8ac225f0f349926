"""The stages of one run. Each reads what earlier ones left in the folder, writes its part, and is kept by digest."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import __version__
from ..core.contracts import WRITERS
from ..core.errors import DataError, Problem
from ..core.evidence import CheckContext, Finding, Scores
from ..core.example import Example
from ..core.files import remove_tree, write_atomic
from ..core.gates import Gate, judge, parse
from ..core.recipe import Recipe, Source
from ..core.run import RunFolder
from ..data import prepare as preparing
from ..data.large import shelf_for
from ..data.read import read
from ..engine import phase as phases
from ..engine.phase import Setting
from ..evaluate.findings import adjust, findings
from ..evaluate.scores import read_scores, write_scores
from ..models.carried import carried_in, superseded, write_carried
from . import keys, subjects
from .kept import changes, kept
from .subjects import splits_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..data.encode import Encoding

__all__ = ["base", "check", "describe", "export", "finish", "prepare", "report", "trackers", "train"]

SUBJECTS = ("base", "tuned", "merged", "reloaded")
PACKAGES = ("torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "pyarrow")


def describe(setting: Setting) -> None:
    """Writes down what runs where, before anything is done."""
    _forget_phases(setting)
    manifest = setting.folder.manifest()
    setting.folder.update_manifest(
        name=setting.recipe.name,
        created=manifest.get("created") or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        luthier=__version__,
        versions={name: _version(name) for name in PACKAGES},
        machine={
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gb": round(_memory_gb(), 1),
            "device": str(setting.compute.device),
            "dtype": str(setting.compute.dtype).removeprefix("torch."),
            "because": setting.compute.because,
            "threads": torch.get_num_threads(),
        },
        seed=setting.seed,
    )


def _forget_phases(setting: Setting) -> None:
    """Takes phases out of the manifest that an earlier recipe in this folder had and this one has not."""
    names = {phase.name for phase in setting.recipe.phases}
    manifest = setting.folder.manifest()
    stay = {
        "training": {name: figures for name, figures in manifest.get("training", {}).items() if name in names},
        "stages": {
            stage: done
            for stage, done in manifest.get("stages", {}).items()
            if not stage.startswith("train ") or stage.removeprefix("train ") in names
        },
    }
    changed = {key: value for key, value in stay.items() if value != manifest.get(key, {})}
    if changed:
        setting.folder.replace_in_manifest(**changed)


# ---- prepare ---------------------------------------------------------------------------------------------------------


def prepare(setting: Setting) -> None:
    """Reads, splits and cleans the recipe's data, and that of phases that bring their own."""
    folder = setting.folder
    own: dict[int | None, Path] = {
        number: setting.phase_folder(number) / "data"
        for number, phase in enumerate(setting.recipe.phases)
        if phase.data is not None
    }
    key = keys.prepare_key(setting)
    with kept(setting, "prepare", key, (folder.data, *own.values())) as todo:
        if todo:
            phases.examine_models(setting)
            # What an earlier recipe in this folder read is none of this one's inputs.
            folder.replace_in_manifest(inputs={})
            for number, target in {None: folder.data, **own}.items():
                _prepare_into(setting, number, target, key)
    for number, phase in enumerate(setting.recipe.phases):
        splits = splits_of(setting, number)
        if phase.data is not None and phase is setting.recipe.phases[-1]:
            # What the last phase made is measured on the recipe's own held-out rows.
            splits = {**splits, "measured": _test_items(setting)}
        phases.survey(setting, number, splits)


def _prepare_into(setting: Setting, number: int | None, target: Path, key: keys.Key) -> None:
    recipe = setting.recipe
    data = recipe.data if number is None else recipe.data_of(recipe.phases[number])
    with shelf_for(data, target / "unfinished" / key.digest[:16]) as shelf:
        prepared = preparing.prepare(data, setting.seed, shelf)
        _refuse_moving(
            [file.path for file in prepared.files if key.files.get(str(Path(file.path)), file.sha256) != file.sha256]
        )
        preparing.save(prepared, target)
        _tell_inputs(setting, prepared)


def _tell_inputs(setting: Setting, prepared: preparing.Prepared) -> None:
    """Writes the files that were read into the manifest, and warns of rows that could not be."""
    inputs = {file.path: {"sha256": file.sha256, "bytes": file.bytes, "rows": file.rows} for file in prepared.files}
    setting.folder.update_manifest(inputs=inputs)
    if prepared.bad:
        first = prepared.bad[0]
        kind = first.reason.partition(": ")[0]  # its details may quote the row, and the log holds no rows
        setting.log(
            "warning",
            text=f"{len(prepared.bad)} rows could not be read and were set aside, "
            f"the first at {first.file}:{first.row} ({kind})",
        )


def _refuse_moving(paths: Sequence[str]) -> None:
    """Rows of a file that is being written belong to no version of it that could be recorded."""
    if paths:
        raise DataError(
            [
                Problem(
                    "the file changed while it was read",
                    path,
                    "a file that nobody writes to",
                    "give the same command again when it is complete",
                )
                for path in paths
            ]
        )


# ---- base, train, export ---------------------------------------------------------------------------------------------


def base(setting: Setting) -> None:
    """Measures the model before the first phase, on the same items that the tuned one will see."""
    checks = [check for check in setting.recipe.checks if "base" in check.subjects]
    if checks:
        with kept(setting, "base", keys.base_key(setting), (setting.folder.scores,)) as todo:
            if todo:
                _measure(setting, "base")


def train(setting: Setting) -> None:
    """Trains every phase in order."""
    for number, phase in enumerate(setting.recipe.phases):
        with kept(setting, f"train {phase.name}", keys.train_key(setting, number), (setting.result(number),)) as todo:
            if todo:
                remove_tree(setting.phase_folder(number) / "merged")
                phases.train_phase(setting, number, splits_of(setting, number))


def export(setting: Setting) -> None:
    """Writes the result in Hugging Face format, with the adaptation folded in where it can be."""
    from ..core.errors import ModelError
    from ..models.export import save_model

    last = len(setting.recipe.phases) - 1
    adaptation = setting.recipe.phases[last].adaptation
    with kept(setting, "export", keys.export_key(setting), (setting.folder.model,)) as todo:
        if not todo:
            return
        loaded = phases.adapted(setting, last, dtype=torch.float32, trained=True)
        dtype = _saved_dtype(setting, loaded.folder)
        try:
            model = adaptation.merge(loaded.model)
        except ModelError as error:
            # What cannot be folded in lies beside the plain base, in the folder that Luthier's own loader looks into.
            setting.log(
                "warning",
                text=f"{error.problems[0].found}; model/ holds what it lies on, and model/adapter the adaptation",
            )
            plain = phases.open_model(setting, last, dtype=torch.float32)
            left, target = superseded(adaptation, loaded.model, plain.fresh), setting.folder.model
            save_model(plain.model, plain.tokenizer, target, dtype=dtype, pooling=plain.pooling, left_out=left)
            write_carried(adaptation, loaded.model, target, left)
            return
        decoding = (
            setting.recipe.decoding.model_dump() if setting.recipe.phases[last].objective.task in WRITERS else None
        )
        target, pooling = setting.folder.model, loaded.pooling
        save_model(model, loaded.tokenizer, target, generation=decoding, dtype=dtype, pooling=pooling)


def _saved_dtype(setting: Setting, source: Path) -> torch.dtype:
    """As the recipe says, or as the base's own weights are stored."""
    chosen = setting.recipe.export.dtype
    if chosen == "auto":
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        chosen = config.get("dtype") or config.get("torch_dtype") or "float32"
    return getattr(torch, chosen)  # type: ignore[no-any-return]


# ---- check -----------------------------------------------------------------------------------------------------------


def check(setting: Setting) -> None:
    """Measures the result, pairs it with the base, and judges the gates."""
    if setting.recipe.checks:
        _refuse_other_base(setting)
        with kept(setting, "check", keys.check_key(setting), (setting.folder.scores,)) as todo:
            if todo:
                for subject in _there(setting)[1:]:
                    _measure(setting, subject)
    _evidence(setting)


def _refuse_other_base(setting: Setting) -> None:
    """Base and tuned are measured on the same items: files that changed between the two would be mixed."""
    if any("base" in check.subjects for check in setting.recipe.checks):
        key = keys.base_key(setting)
        if key.digest != setting.folder.done("base")["key"]:
            changed = changes(setting.folder.done("base").get("files", {}), key.files)
            raise DataError(
                "what base was measured on changed before the result could be: " + ("; ".join(changed) or "the model"),
                expected="files that stay as they are while they are measured on",
                remedy="give the same command again: base is measured again, and training is kept",
            )


def _there(setting: Setting) -> tuple[str, ...]:
    """The subjects that there are: what cannot be folded into its base has no merged form."""
    return tuple(name for name in SUBJECTS if name != "merged" or carried_in(setting.folder.model) is None)


def _measure(setting: Setting, name: str) -> None:
    context = _context(setting)
    test = _test_items(setting)
    for float32 in (False, True):
        wanted = [c for c in setting.recipe.checks if name in c.subjects and c.float32 == float32]
        if not wanted:
            continue
        subject = subjects.subject(setting, name, torch.float32 if float32 else setting.compute.dtype)
        for one in wanted:
            before = subject.encoding.log.counts()
            scores = one.measure(subject, one.examples(test, context), context)
            write_scores(setting.folder.scores, one.component_name(), name, scores)
            _tell_lost(setting, one.component_name(), before, subject.encoding)
            setting.log("note", text=f"measured {one.component_name()} of {name} on {len(scores.rows)} rows")


def _tell_lost(setting: Setting, check: str, before: Mapping[str, int], encoding: Encoding) -> None:
    """Warns of items that a check shortened or left out to encode them; the same words for every subject."""
    words = {"prompts": "prompts shortened", "truncated": "rows shortened", "dropped": "rows left out"}
    now = encoding.log.counts()
    lost = [f"{now[kind] - before[kind]} {what}" for kind, what in words.items() if now[kind] > before[kind]]
    if lost:
        setting.log("warning", text=f"the check {check}: {', '.join(lost)} to fit {encoding.max_length} tokens")


def _test_items(setting: Setting) -> Sequence[Example]:
    """The items that checks measure on: test, or validation where there is no test."""
    splits = splits_of(setting, None)
    return splits.get("test") or splits.get("validation") or ()


def _context(setting: Setting) -> CheckContext:
    last = len(setting.recipe.phases) - 1
    path = setting.phase_folder(last) / "facts.json"
    facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @cache
    def examples(source: str) -> Sequence[Example]:
        return read([Source(path=source)], bad_rows="stop").examples

    shared = {"dtype": str(setting.compute.dtype).removeprefix("torch."), "split_by": setting.recipe.data.split_by}
    return CheckContext({**facts, **shared}, setting.seed, examples)


def _evidence(setting: Setting) -> None:
    """Scores become findings, findings meet the gates; written to evidence.json."""
    context = _context(setting)
    found: list[Finding] = []
    samples: dict[str, list[dict[str, Any]]] = {}
    confusion: dict[str, Any] = {}
    for one in setting.recipe.checks:
        name = one.component_name()
        scores = {s: read_scores(setting.folder.scores, name, s) for s in one.subjects if s in _there(setting)}
        found.extend(findings(scores, one.measures(context.facts), name, setting.seed))
        samples |= _samples(name, scores)
        confusion |= {subject: asdict(value.confusion) for subject, value in scores.items() if value.confusion}
    found = adjust(found)
    verdicts = [judge(gate, found) for gate in map(parse, setting.recipe.gates) if isinstance(gate, Gate)]
    record = {
        "findings": [finding.to_json() for finding in found],
        "gates": [verdict.to_json() for verdict in verdicts],
        "samples": samples,
        "confusion": confusion,
    }
    write_atomic(setting.folder.evidence, json.dumps(record, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def _samples(name: str, scores: Mapping[str, Scores]) -> dict[str, list[dict[str, Any]]]:
    """Base and tuned answers to the same items, side by side."""
    if not any(score.samples for score in scores.values()):
        return {}
    answers = {subject: {item.row: item for item in score.samples} for subject, score in scores.items()}
    rows = [item.row for item in next(score.samples for score in scores.values() if score.samples)]
    shown = []
    for row in rows:
        items = {subject: found[row] for subject, found in answers.items() if row in found}
        first = next(iter(items.values()))
        shown.append(
            {"row": row, "prompt": first.prompt, "wanted": first.wanted}
            | {subject: item.answer for subject, item in items.items()}
        )
    return {name: shown}


# ---- report ----------------------------------------------------------------------------------------------------------


def report(setting: Setting) -> None:
    """The page, the model card, and the digests of everything: made anew each time, from the folder alone."""
    finish(setting.folder)


def finish(folder: RunFolder) -> None:
    """Writes report.html, README.md (copied into model/) and the data's datasheet, then the digests of all outputs."""
    from ..report.cards import write_card
    from ..report.datasheet import write_datasheet
    from ..report.page import write_report

    write_card(folder.path)
    write_datasheet(folder.path)
    write_report(folder.path)
    if folder.model.exists():
        write_atomic(folder.model / "README.md", folder.card.read_text(encoding="utf-8"))
    folder.replace_in_manifest(outputs=folder.digests())


# ---- small facts -----------------------------------------------------------------------------------------------------


def trackers(recipe: Recipe, folder: RunFolder) -> tuple[Callable[[Mapping[str, Any]], None], ...]:
    """The listeners that the recipe's trackers name."""
    if "tensorboard" not in recipe.trackers:
        return ()
    from ..engine.track import TensorBoard

    return (TensorBoard(folder.path / "tensorboard"),)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _memory_gb() -> float:
    import psutil

    return float(psutil.virtual_memory().total) / 1e9


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()
