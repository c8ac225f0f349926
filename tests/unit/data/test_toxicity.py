"""toxicity: what the lexicon finds and what it must let pass; a classifier in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.component import build
from luthier.core.contracts import StepContext
from luthier.core.errors import ModelError
from luthier.core.example import Example, Origin, Turn
from luthier.data.ledger import Entry, Ledger
from luthier.data.text.toxicity import CATEGORIES, toxicity


def run(rows: list[Example], **options: Any) -> tuple[list[str], list[Entry], dict[str, Any]]:
    ledger = Ledger()
    context = StepContext("train", 1, ledger.page("train", "toxicity"))
    kept = list(build("steps", {"toxicity": options}).run(rows, context))
    return [row.id for row in kept], ledger.entries, context.facts


def text(content: str, row: int = 1) -> Example:
    return Example(f"r{row}", {"text": content}, Origin("f", row))


@pytest.mark.parametrize(
    ("content", "score", "categories"),
    [
        ("Well, damn.", 0.1, ("profanity",)),
        ("What an idiot.", 0.3, ("insult",)),
        ("You IDIOT, you moron!", 1 - 0.7 * 0.7, ("insult",)),
        ("idiot, idiot, idiot", 0.3, ("insult",)),  # one word said three times is one word
        ("this is fuuucking shit", 1 - 0.4 * 0.6, ("profanity",)),
        ("what a piece of\nshit", 0.6, ("insult",)),
        ("sh1t and f*cking", 1 - 0.6 * 0.4, ("profanity",)),
        ("Just kill yourself, asshole", 1 - 0.15 * 0.4, ("threat", "insult")),
        ("I’ll kill you!", 0.5, ("threat",)),
        ("Du Arschloch!", 0.6, ("insult",)),
    ],
)
def test_scores_by_hand(content: str, score: float, categories: tuple[str, ...]) -> None:
    found = toxicity(content)
    assert found.score == pytest.approx(score)
    assert found.categories == categories


@pytest.mark.parametrize(
    "content",
    [
        "The ass brayed at the lion, and the cock crowed thrice.",
        "Moby Dick was written by Melville; Dick and Jane went home.",
        "Blue tits and great tits nest in Scunthorpe, Essex and Penistone.",
        "She graduated summa cum laude and assessed the classics in Middlesex.",
        "They piled faggots of wood and stopped the chinks with moss.",
        "Maine coon cats, pussy willows, spick and span.",
        "Do not prick your finger; a flame retardant retards the fire.",
        "The looser knot is drop dead simple. Shiitake and cocktails in the cockpit.",
        "See https://shit.example/fuck or mail to fuck@example.org",
        "Niger and Nigeria share the river; niggardly means stingy.",
        "Der Neigerweg, die Depparture und das Wichserl",
        "I like you, cow.",
    ],
)
def test_false_friends_pass(content: str) -> None:
    assert toxicity(content).score == 0


def test_a_long_text_is_as_toxic_as_its_worst_passage() -> None:
    calm = "the mill stands by the river and grinds corn " * 30
    once = toxicity(calm + "idiot " + calm)
    spread = toxicity(calm + "idiot " + calm + "moron " + calm)
    together = toxicity(calm + "idiot moron " + calm)
    assert once.score == spread.score == pytest.approx(0.3)
    assert together.score == pytest.approx(0.51)
    assert spread.words == 2
    just_inside = toxicity("idiot " + "x " * 98 + "moron")
    just_outside = toxicity("idiot " + "x " * 99 + "moron")
    assert (just_inside.score, just_outside.score) == (pytest.approx(0.51), pytest.approx(0.3))


def test_the_step_notes_or_drops_with_category_and_score() -> None:
    rows = [text("A calm day.", 1), text("Go kill yourself.", 2), text("You damn idiot.", 3)]
    kept, entries, facts = run(rows)
    assert kept == ["r1", "r2", "r3"]
    assert [(e.id, e.action, e.reason) for e in entries] == [("r2", "noted", "toxic: threat (0.85)")]
    assert facts == {"toxic": 1, "categories": {"threat": 1}}
    kept, entries, facts = run(rows, threshold=0.3, action="drop")
    assert kept == ["r1"]
    assert entries[1].reason == "toxic: insult, profanity (0.37)"
    assert facts["categories"] == {"insult": 1, "profanity": 1, "threat": 1}


def test_a_toxic_prompt_with_a_good_answer_can_stay() -> None:
    turns = (Turn("user", "Fuck you, asshole!"), Turn("assistant", "I understand that you are angry."))
    row = Example("r1", {"messages": turns, "tools": '["fuck you"]'}, Origin("f", 1))
    assert run([row], action="drop")[0] == []
    assert run([row], action="drop", judge="learned")[0] == ["r1"]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["idiot", "damn", "calm", "you", "f*ck", "shit", "\n", "*", "@", "ass"]), max_size=30))
def test_scores_are_probabilities_and_more_words_never_lower_them(words: list[str]) -> None:
    shorter, longer = toxicity(" ".join(words[:15])), toxicity(" ".join(words))
    assert 0 <= shorter.score <= longer.score + 1e-12 <= 1 + 1e-12
    assert set(longer.categories) <= set(CATEGORIES)
    assert bool(longer.words) == bool(longer.categories)


# ---- by a classifier -------------------------------------------------------------------------------------------------


@pytest.fixture
def classifier(bert_folder: Path, tmp_path: Path) -> Path:
    """A classifier whose first of three classes is toxic; its weights are random."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    config = AutoConfig.from_pretrained(bert_folder)
    config.num_labels = 3
    config.id2label = {0: "toxic", 1: "not_toxic", 2: "neutral"}
    config.label2id = {name: number for number, name in config.id2label.items()}
    torch.manual_seed(3)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(bert_folder).save_pretrained(tmp_path)
    return tmp_path


def test_a_classifier_takes_the_lexicons_place(classifier: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    rows = [text("fuck you", 1), text("a calm day by the river", 2)]
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    model = AutoModelForSequenceClassification.from_pretrained(classifier).eval()
    with torch.inference_mode():
        expected = [
            float(model(**tokenizer(str(row.parts["text"]), return_tensors="pt")).logits.softmax(-1)[0, 0])
            for row in rows
        ]
    _, entries, facts = run(rows, model=str(classifier), threshold=1e-6)
    assert [entry.reason for entry in entries] == [f"toxic: toxic ({score:.2f})" for score in expected]
    assert facts == {"toxic": 2, "categories": {"toxic": 2}}
    between = sorted(expected)
    kept, _, _ = run(rows, model=str(classifier), threshold=sum(between) / 2, action="drop")
    assert kept == [row.id for row, score in zip(rows, expected, strict=True) if score == between[0]]


def test_long_texts_are_judged_window_by_window(classifier: Path) -> None:
    words = "river mill corn calm day wheel " * 200
    _, entries, _ = run([text(words)], model=str(classifier), threshold=1e-6, labels=["neutral"])
    assert entries[0].reason.startswith("toxic: neutral (")


def test_labels_and_folders_that_do_not_do_are_told(classifier: Path, llama_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no label rude") as error:
        run([text("a")], model=str(classifier), labels=["rude"])
    assert "toxic, not_toxic, neutral" in str(error.value)
    with pytest.raises(ModelError, match="there is no model"):
        run([text("a")], model=str(tmp_path / "absent"))
    with pytest.raises(ModelError, match="architecture is LlamaForCausalLM"):
        run([text("a")], model=str(llama_folder))
