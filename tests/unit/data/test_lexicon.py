"""Domain terms against rows and tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.core.contracts import StepContext
from luthier.core.errors import DataError
from luthier.core.example import Example, Origin
from luthier.data.ledger import Ledger
from luthier.data.steps.lexicon import Lexicon

TEXTS = ["The Sound\nPost of a violin.", "violins are not it", "A bow.", "sound, post", "VIOLIN violin"]


def run(step: Lexicon, split: str = "train") -> tuple[list[Example], StepContext, Ledger]:
    rows = [Example(f"r:{n}", {"text": text}, Origin("r", n + 1), weight=0.5) for n, text in enumerate(TEXTS)]
    ledger = Ledger()
    context = StepContext(split, 1, ledger.page(split, "lexicon"))
    return list(step.run(rows, context)), context, ledger


def test_whole_words_count_and_rows_with_a_term_weigh_more() -> None:
    rows, context, ledger = run(Lexicon(terms=("violin", "sound post", "Lute", "lute"), weight=3))
    assert [row.weight for row in rows] == [1.5, 0.5, 0.5, 0.5, 1.5]
    assert [entry.id for entry in ledger.entries] == ["r:0", "r:4"]
    assert context.facts == {
        "terms": 3, "terms_that_occur": 2, "absent": ["Lute"], "rows_with_a_term": 0.4, "occurrences": 4,
    }  # fmt: skip


def test_what_is_measured_keeps_its_weight() -> None:
    rows, context, ledger = run(Lexicon(terms=("violin",), weight=3), "test")
    assert {row.weight for row in rows} == {0.5}
    assert not ledger.entries
    assert context.facts["occurrences"] == 3


def test_terms_that_cost_most_are_proposed_as_tokens() -> None:
    from luthier.models.source import resolve
    from luthier.models.tokens import load_tokenizer

    tokenizer, _ = load_tokenizer(resolve("embedded:nano").folder)
    _, context, _ = run(Lexicon(terms=("violin", "sound post", "bow", "of"), model="embedded:nano", least=1))
    pieces = {term: len(tokenizer(f" {term}")["input_ids"]) for term in ("violin", "sound post", "bow", "of")}
    counts = {"violin": 3, "sound post": 1, "bow": 1, "of": 1}
    saved = {term: (pieces[term] - 1) * counts[term] for term in counts}
    expected = sorted((term for term in saved if saved[term]), key=lambda term: (-saved[term], term))
    assert context.facts["new_tokens"] == expected
    assert "violin" in expected
    assert context.facts["tokens_saved_by_them"] == sum(saved.values())
    assert context.facts["tokens_a_term"] == sum(pieces[term] * counts[term] for term in counts) / 6
    assert context.facts["words_a_term"] == 7 / 6


def test_a_file_of_terms(tmp_path: Path) -> None:
    path = tmp_path / "terms.txt"
    path.write_text("# strings\n\nviolin\n")
    assert run(Lexicon(terms=str(path)))[1].facts["occurrences"] == 3
    path.write_text("# strings\n")
    for terms, told in ((str(path), "there is no term"), (str(tmp_path / "no.txt"), "the terms cannot be read")):
        with pytest.raises(DataError, match=told):
            run(Lexicon(terms=terms))
