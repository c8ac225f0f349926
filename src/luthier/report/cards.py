"""The model card: README.md in the Hugging Face hub's format, written from the run folder alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader

from ..core.component import find, names
from ..core.files import write_atomic
from ..core.redact import published
from . import words
from .changes import flow
from .comparison import Compared, compare, headline, judgement_words
from .record import Record, read_record

__all__ = ["write_card"]

_HUB = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@[\w./-]+)?")
_FILE = re.compile(r"\.(jsonl?|csv|tsv|parquet|txt|text|md|gz|xz|zst)$", re.IGNORECASE)
_LICENSES = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_SPECIAL = re.compile(r"([\\`*\[\]<|~&]|(?<!\w)_|_(?!\w)|^[>#+=-])")

_METRICS = {
    "classification.accuracy": "accuracy",
    "classification.macro_f1": "f1",
    "tagging.f1": "f1",
    "tagging.precision": "precision",
    "tagging.recall": "recall",
    "perplexity.perplexity": "perplexity",
    "text_match.bleu": "bleu",
    "text_match.exact": "exact_match",
    "text_match.rouge_l": "rouge",
    "text_match.token_f1": "f1",
}
"""Our metrics under the hub's names; others keep their own."""


def write_card(folder: Path) -> Path:
    """Writes `README.md` into the run folder and returns its path.

    The front matter names license, base model, data, task and the tuned model's results (`model-index`); what is not
    known is left out. Text from data is escaped, so that it cannot become markup. The card goes where the model goes:
    it holds no rows, no credentials, and of absolute paths only the last part.
    Errors: DataError when the folder is no run folder or a file in it is damaged.
    """
    record = _published(read_record(folder))
    environment = Environment(  # Markdown, not HTML: every value from outside passes the `md` filter below
        loader=PackageLoader("luthier.report"),
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name in ("count", "number", "signed", "interval", "probability", "seconds", "size"):
        environment.filters[name] = getattr(words, name)
    environment.filters["md"] = _plain
    environment.globals.update(apart=words.apart)
    body = environment.get_template("card.md.j2").render(_view(record))
    front = yaml.safe_dump(_front(record), sort_keys=False, allow_unicode=True, width=100)
    path = record.folder / "README.md"
    text = f"---\n{front}---\n\n{body}"
    write_atomic(path, text.encode("utf-8", "replace"))  # data may hold half a surrogate pair
    return path


def _published(record: Record) -> Record:
    """The record without places of this machine, in everything that people or paths wrote."""
    return replace(
        record,
        recipe=published(record.recipe),
        manifest=published(record.manifest),
        findings=[replace(finding, note=published(finding.note)) for finding in record.findings],
        verdicts=[replace(verdict, note=published(verdict.note)) for verdict in record.verdicts],
        warnings=published(record.warnings),
    )


def _plain(value: Any) -> str:
    """One line of Markdown that shows the value as it is: markup characters escaped, line breaks as spaces."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def _front(record: Record) -> dict[str, Any]:
    task = _task(record)
    front: dict[str, Any] = {}
    known = record.recipe.get("license") or record.part("model").get("license")
    if known:
        named = str(known).lower()
        front["license"] = named if _LICENSES.fullmatch(named) else "other"
        if front["license"] == "other":
            front["license_name"] = str(known)
    front["library_name"] = "sentence-transformers" if task == "sentence-similarity" else "transformers"
    front["pipeline_tag"] = task
    base = _hub_id(record.recipe.get("model"))
    if base:
        front["base_model"] = base
        front["base_model_relation"] = "finetune"
    datasets = sorted({hub for source in _sources(record) if (hub := _hub_id(source))})
    if datasets:
        front["datasets"] = datasets
    parts = [part for phase in _phases(record) for part in (phase["objective"], phase["adaptation"])]
    front["tags"] = list(dict.fromkeys(["luthier", "fine-tuned", *(part.replace("_", "-") for part in parts)]))
    results = _results(record, task)
    if results:
        front["model-index"] = [{"name": record.name, "results": results}]
    return front


def _results(record: Record, task: str) -> list[dict[str, Any]]:
    """The tuned model's metrics as the hub's evaluation results, those on general text apart from the test split's."""
    metrics: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for row in compare(record.findings):
        if row.group is None and row.tuned is not None and math.isfinite(row.tuned.value):
            metric = {"type": _METRICS.get(row.label, row.metric), "value": row.tuned.value, "name": row.label}
            metrics[row.check == "forgetting"].append(metric)
    rows = record.summary.get("splits", {}).get("test")
    name = f"test split of {record.name}" + (f" ({rows} rows)" if rows else "")
    hub = next((found for source in _sources(record) if (found := _hub_id(source))), None)
    test = {"name": name, "type": hub or record.name, "split": "test"}
    general = {"name": "general text of the forgetting check", "type": "general-text"}
    return [
        {"task": {"type": task}, "dataset": dataset, "metrics": metrics[apart]}
        for apart, dataset in ((False, test), (True, general))
        if metrics[apart]
    ]


_TASKS = {
    "classify": "text-classification",
    "contrast": "sentence-similarity",
    "masked_lm": "fill-mask",
    "ordinal": "text-classification",
    "reward": "text-classification",
    "score": "text-classification",
    "seq2seq": "text2text-generation",
    "span": "question-answering",
    "tag": "token-classification",
}
"""What the hub calls the tasks of objectives; the others write text."""


_LOADS = {
    "text-classification": ("AutoModelForSequenceClassification", "sequence_classification"),
    "token-classification": ("AutoModelForTokenClassification", "token_classification"),
    "fill-mask": ("AutoModelForMaskedLM", "masked_lm"),
    "question-answering": ("AutoModelForQuestionAnswering", "question_answering"),
    "sentence-similarity": ("AutoModel", "features"),
    "text2text-generation": ("AutoModelForSeq2SeqLM", "seq2seq"),
}
"""The class of transformers that loads a model for a task, and what Luthier's loader calls the task."""


_MOVES = ("optimizer", "schedule", "per_step")
"""What a phase says of its steps: nothing where it is solved at once."""


def _task(record: Record) -> str:
    phases = _phases(record)
    return _TASKS.get(phases[-1]["objective"], "text-generation") if phases else "text-generation"


def _phases(record: Record) -> list[dict[str, Any]]:
    """Each phase with the names of its parts, defaults filled in, and its remaining settings as text."""
    out = []
    defaults = {"objective": "causal_lm", "adaptation": "full", "optimizer": "adamw", "schedule": "cosine"}
    for phase in record.recipe.get("phases") or [{}]:
        found: dict[str, Any] = {"name": phase.get("name", "train")}
        for key, default in defaults.items():
            found[key] = _component(phase.get(key, default))
        found["solved"] = _solved(found["adaptation"])
        unread = ("name", "data", *(_MOVES if found["solved"] else ()))
        rest = {key: value for key, value in phase.items() if key not in unread}
        found["settings"] = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in rest.items()]
        out.append(found)
    return out


def _solved(adaptation: str) -> bool:
    """Whether it is solved for at once, with neither optimizer nor schedule."""
    kind: Any = find("adaptations", adaptation) if adaptation in names("adaptations") else None
    return kind is not None and bool(kind.solved)


def _component(value: Any) -> str:
    return str(next(iter(value), "")) if isinstance(value, Mapping) else str(value)


def _sources(record: Record) -> Iterator[str]:
    """Paths of all data that the recipe names."""
    places = [record.recipe.get("data") or {}, *((p.get("data") or {}) for p in record.recipe.get("phases") or ())]
    for data in places:
        for split in ("train", "validation", "test"):
            value = data.get(split)
            for source in value if isinstance(value, list) else [value]:
                path = source.get("path") if isinstance(source, Mapping) else source
                if isinstance(path, str) and path not in record.part("inputs"):
                    yield path


def _hub_id(source: Any) -> str | None:
    """The hub's owner/name in a source, without its revision; None for files, folders and embedded models."""
    match = _HUB.fullmatch(source) if isinstance(source, str) else None
    if match is None or _FILE.search(source) or Path(source).exists():
        return None
    return match["id"]


def _place(record: Record) -> str:
    """The model's folder in the run's; of repetitions without a model of their own, that of the first seed."""
    if not record.seeds or (record.folder / "model").exists():
        return "model"
    return f"seeds/seed-{record.seeds[0].seed}/model"


def _adapters(record: Record) -> list[str]:
    """Folders of adapters that plain PEFT loads, relative to the run folder."""
    found = sorted(record.folder.glob("phases/*/**/adapter_config.json"))
    return [file.parent.relative_to(record.folder).as_posix() for file in found if "checkpoint" not in str(file.parent)]


def _spec(record: Record) -> dict[str, Any]:
    """The description of what lies beside the exported base, since it could not be folded in."""
    spec = record.folder / _place(record) / "adapter" / "luthier.json"
    return json.loads(spec.read_text(encoding="utf-8")) if spec.exists() else {}


def _carried(record: Record) -> str | None:
    """The name of that adaptation."""
    adaptation = _spec(record).get("adaptation")
    return adaptation if adaptation is None or isinstance(adaptation, str) else str(next(iter(adaptation)))


def _has_template(record: Record) -> bool:
    """Whether the model's tokenizer has a chat template: it decides what the snippet shows."""
    model = record.folder / _place(record)
    if (model / "chat_template.jinja").exists():
        return True
    config = model / "tokenizer_config.json"
    return config.exists() and '"chat_template"' in config.read_text(encoding="utf-8")


def _labels(record: Record) -> int | str:
    """How many classes the model's head has; a word to be replaced where the folder does not tell."""
    file = record.folder / _place(record) / "config.json"
    labels = json.loads(file.read_text(encoding="utf-8")).get("id2label") if file.exists() else None
    classes = next(iter(record.confusion.values()), {}).get("classes")
    return len(labels or classes or ()) or "NUMBER_OF_CLASSES"


def _view(record: Record) -> dict[str, Any]:
    rows = compare(record.findings)
    source = record.recipe.get("model") or record.part("model").get("source")
    return {
        "name": record.name,
        "about": record.recipe.get("about"),
        "verdict": headline(record),
        "source": source,
        "base": _hub_id(source) or "PATH_OF_THE_BASE_MODEL",
        "task": _task(record),
        "loads": _LOADS.get(_task(record), ("AutoModelForCausalLM", "causal_lm")),
        "place": _place(record),
        "chat": _has_template(record),
        "labels": _labels(record),
        "adapters": _adapters(record),
        "carried": _carried(record),
        "headless": bool(_spec(record).get("left_out")),
        "tokens": (record.recipe.get("decoding") or {}).get("max_new_tokens", 128),
        "rows": [_row(row) for row in rows if row.group is None and (row.base or row.tuned)],
        "groups": sum(row.group is not None for row in rows),
        "exported": [finding for row in rows for finding in row.others],
        "notes": [f"{row.label}: {note}" for row in rows if row.group is None for note in row.notes],
        "unit": "seeds" if record.seeds else "items",
        "verdicts": record.verdicts,
        "summary": record.summary,
        "flow": flow(record.summary),
        "phases": _phases(record),
        "training": record.part("training"),
        "inputs": record.part("inputs"),
        "machine": record.part("machine"),
        "versions": record.part("versions"),
        "energy": record.part("energy"),
        "manifest": record.manifest,
        "warnings": record.warnings,
        "seeds": record.seeds,
        "limits": list(_limits(record, rows)),
    }


def _row(row: Compared) -> dict[str, Any]:
    return {
        "label": row.label,
        "better": row.better,
        "base": row.base,
        "tuned": row.tuned,
        "change": row.change,
        "words": judgement_words(row.judgement),
        "p": row.p,
        "n": row.n,
    }


def _limits(record: Record, rows: list[Compared]) -> Iterator[str]:
    """What this run's evidence does not show, told from what lies in the folder."""
    for verdict in record.verdicts:
        if not verdict.holds:
            yield f"The gate {verdict.gate} does not hold."
    worse = [row.label for row in rows if row.group is None and row.judgement == "worse"]
    if worse:
        yield f"Training made this worse: {', '.join(worse)}."
    unclear = [row.label for row in rows if row.group is None and row.judgement == "unclear"]
    if unclear:
        yield f"No clear change was measured in {', '.join(unclear)}."
    if rows and not any(row.check == "forgetting" for row in rows):
        yield "What training cost in general ability was not measured."
    few = min((row.n for row in rows if row.group is None and row.tuned), default=0)
    if 0 < few < 100 and not record.seeds:
        yield f"Some results rest on {few} items only; their intervals are wide."
    if not record.seeds and rows:
        yield "One seed was run; another seed may give other numbers."
    for phase, training in record.part("training").items():
        if training.get("truncated"):
            yield f"In phase {phase} {training['truncated']:,} rows were truncated to the length limit."
    yield "The results hold for data like the test data; safety, bias and factual accuracy were not measured."
