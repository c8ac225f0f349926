"""What the embedded model can do, and what it does that one should know: the evidence for its card.

    python -m experiments.nano [MODEL] [--data FOLDER] [--run FOLDER] [--quick] [--json FILE] [--page docs/nano.md]

FOLDER is what tools/make_nano.py made (default out/nano): held-out documents, training text, planted codes. Bits a byte
beside xz, a trigram model and stories260K; greedy continuations; words learned by heart; exposure of planted codes;
pronouns after occupations; speed, and with --run that of the training. MODEL is embedded:nano unless named.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.record import finish
from luthier.core.errors import LuthierError
from luthier.models.load import Loaded, load_model

from ._nano_bits import Neural, Predictor, TrigramPredictor, compare, rows_of, stories260k
from ._nano_memory import exposures, recall, recall_rows
from ._nano_model import openings, repeat_rows
from ._nano_page import Evidence, continuation_text, pronoun_text, recall_text, write_page
from ._nano_speed import generation, training
from ._nano_stereotypes import pronoun_rows, pronouns
from ._nano_texts import TextSet, held_out, plain_texts, text_sets

__all__ = ["main"]

LENGTH = 512
"""Tokens of a window, as in training."""
CONTINUED = {"the likeliest token each time": 0.0, "drawn at temperature 0.7": 0.7}


def bits(evidence: Evidence, loaded: Loaded, data: Path, *, quick: bool) -> None:
    """Bits a byte on every set, beside the others."""
    sets: list[TextSet] = text_sets(data)
    if quick:
        sets = [texts.first(3, 3_000) for texts in sets]
    print("counting trigrams", flush=True)
    others: dict[str, Predictor] = {
        "trigram": TrigramPredictor(loaded.tokenizer, plain_texts(data, 5 if quick else None)),
        "stories260k": stories260k(),
    }
    ours = Neural(loaded.model, loaded.tokenizer, LENGTH)
    found = []
    for texts in sets:
        found.append(compare(texts, ours, others))
        told = ", ".join(f"{name} {estimate.value:.3f}" for name, estimate in found[-1].estimates.items())
        print(f"bits a byte, {texts.name}: {told}", flush=True)
    evidence.compared = found
    evidence.parts["Bits a byte"] = rows_of(found, floors=not quick)


def behavior(evidence: Evidence, loaded: Loaded, data: Path, *, quick: bool) -> None:
    """Continuations, what was learned by heart, planted codes, pronouns."""
    stories = held_out(data, "stories")
    count, tokens = (2, 20) if quick else (10, 130)
    for kind, temperature in CONTINUED.items():
        evidence.samples[kind] = openings(loaded, stories, count, tokens, temperature)
        _tell(f"continuations of held-out stories, {kind}", continuation_text(evidence.samples[kind]))
    evidence.parts["Continuations"] = repeat_rows(evidence.samples)
    sizes = {"samples": 8, "tokens": 16, "limit": 20} if quick else {"samples": 200, "tokens": 128}
    evidence.recall = recall(loaded, data, **sizes)
    evidence.parts["Memory"] = recall_rows(evidence.recall)
    _tell("learned by heart", recall_text(evidence.recall))
    evidence.parts["Planted codes"] = exposures(loaded, data, 1 if quick else None)
    evidence.pronouns = pronouns(loaded)
    evidence.parts["Pronouns"] = pronoun_rows(evidence.pronouns)
    _tell("pronouns", pronoun_text(evidence.pronouns))


def speed(evidence: Evidence, loaded: Loaded, run: Path | None, *, quick: bool) -> None:
    """Tokens a second: writing, and training where a run is named."""
    sizes = {"prompts": 8, "tokens": 8, "repeats": 1} if quick else {}
    evidence.parts["Speed"] = [generation(loaded.folder, **sizes)]
    if run is not None:
        evidence.parts["Speed"] += training(run, loaded)


def _tell(title: str, lines: Sequence[str]) -> None:
    print(f"\n{title}\n", *lines, sep="\n", flush=True)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The evidence for the embedded model.")
    parser.add_argument("model", nargs="?", default="embedded:nano")
    parser.add_argument("--data", type=Path, default=Path("out/nano"), help="what tools/make_nano.py made")
    parser.add_argument("--run", type=Path, default=None, help="the run that trained it, for the speed of training")
    parser.add_argument("--quick", action="store_true", help="about a minute: few texts and samples; no floor is held")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--page", type=Path, default=None, help="the page to write the evidence into")
    given = parser.parse_args(arguments)
    if given.quick and given.page:
        parser.error("--page wants a whole run, not a quick one")
    if not (given.data / "facts.json").is_file():
        parser.error(f"{given.data} holds no data: make it with `python tools/make_nano.py {given.data}`")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    given = _arguments(arguments)
    evidence = Evidence(given.model)
    try:
        loaded = load_model(given.model, "causal_lm")
        bits(evidence, loaded, given.data, quick=given.quick)
        behavior(evidence, loaded, given.data, quick=given.quick)
        speed(evidence, loaded, given.run, quick=given.quick)
    except LuthierError as error:
        print(error, file=sys.stderr)
        return 2
    if given.page is not None:
        write_page(evidence, given.page)
    return finish(evidence.rows, given.json)


if __name__ == "__main__":
    sys.exit(main())
