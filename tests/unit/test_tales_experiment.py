"""The control of the experiment on tales: the sentence that shares most words with the question."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.tales import control, copied

PASSAGE = 'The miller had three sons. "Who takes the mill?" he asked. The youngest took the cat.'


def test_the_sentence_that_shares_most_words_is_copied() -> None:
    assert copied(PASSAGE, "Who had three sons?") == "The miller had three sons."
    assert copied(PASSAGE, "What did the youngest take, the cat?") == "The youngest took the cat."
    # Articles and case are no words of it; of equals the first.
    assert copied(PASSAGE, "the, a, An") == "The miller had three sons."
    assert copied(" ", "Who?") == ""


def test_its_score_is_the_mean_of_token_f1(tmp_path: Path) -> None:
    rows = [
        {"context": PASSAGE, "question": "Who had three sons?", "answers": ["the miller", "miller had three sons"]},
        {"context": PASSAGE, "question": "What did the youngest take?", "answers": ["the mill"]},
    ]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert control(tmp_path / "test.jsonl") == 0.5
