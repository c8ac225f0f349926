"""Variants and conversations by local models: what is kept of what they say, and what they are asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from masked import VOCABULARY, masked_folder, seq2seq_folder

from luthier.core.component import build
from luthier.core.contracts import Step, StepContext
from luthier.core.errors import ModelError, RecipeError
from luthier.core.example import Example, Origin, Turn
from luthier.data.augment import rewrite
from luthier.data.augment.rewrite import Manner
from luthier.data.augment.texts import Job
from luthier.data.ledger import Ledger
from luthier.data.steps import back_translation, paraphrase, self_instruct
from luthier.models import fill

TEXTS = ("Where is the old house, and the new card?", "The small wolf sang to the moon", "My 7 cards: not lost")


def rows() -> list[Example]:
    return [Example(f"r:{n}", {"text": text}, Origin("r", n + 1), "card") for n, text in enumerate(TEXTS)]


def run(name: str, given: list[Example], seed: int = 1, **parameters: Any) -> tuple[list[Example], dict[str, Any]]:
    context = StepContext("train", seed, Ledger().page("train", name))
    step = build("steps", {name: parameters})
    assert isinstance(step, Step)
    kept = list(step.run(given, context))
    return [row for row in kept if row.origin.synthetic], context.facts


# ---- masked words ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(masked_folder(tmp_path_factory.mktemp("masked")))


def test_words_are_written_anew_one_for_one(masked: str) -> None:
    found, facts = run("mask_substitution", rows(), model=masked, rate=0.4, times=4)
    assert facts["variants"] == len(found) >= 9
    known = {word for word in VOCABULARY if word.isalpha()}
    for variant in found:
        old, new = TEXTS[int(variant.origin.parents[0][2:])].split(), variant.text().split()
        assert len(old) == len(new)
        changed = [(a.strip(",?:"), b.strip(",?:")) for a, b in zip(old, new, strict=True) if a != b]
        assert 1 <= len(changed) <= 4
        assert all(b.lower() in known and a[0].isupper() == b[0].isupper() for a, b in changed)
        assert "7" in new or "7" not in old
        assert "not" in new or "not" not in old


def test_the_first_candidate_comes_most_often(masked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filler = fill.load_filler(masked)
    monkeypatch.setattr(fill, "load_filler", lambda source: filler)
    (best,) = filler.words([("The small ", " sang to the moon")], 3)
    given = [Example("r:1", {"text": "The small wolf sang to the moon"}, Origin("r", 1), "card")]
    protect = ["the", "small", "sang", "to", "moon"]
    written = [
        run("mask_substitution", given, seed, model=masked, top=3, protect=protect)[0][0].text().split()[2]
        for seed in range(60)
    ]
    fitting = [pair for pair in best if pair[0] != "wolf"]
    assert set(written) <= {word for word, _ in fitting} | {word for word in VOCABULARY if word.isalpha()}
    assert max(set(written), key=written.count) == fitting[0][0]


def test_case_endings_and_stray_letters() -> None:
    from luthier.data.steps.mask_substitution import _other, _Work

    pairs = [("card", "cards"), ("card", "Card"), ("t", "my"), ("card", "cardinal"), ("i", "a"), ("new", "news")]
    assert [_other(new, old) for new, old in pairs] == [False, False, False, True, True, True]
    for text, place, new, wanted in [
        ("I paid. May I go?", 12, "we", "I paid. May we go?"),
        ("I paid", 0, "we", "We paid"),
        ("He paid", 0, "i", "I paid"),
    ]:
        end = text.index(" ", place)
        work = _Work(Job(text, [(0, place), (end, len(text))], False, 1), 0.1)
        work.write([(new, 1.0)], 1)
        assert work.said == wanted


def test_tagged_entities_stay(masked: str) -> None:
    tags = ("O", "O", "B-PER", "O")
    given = [Example("t", {"tokens": "the small Wolf sang"}, Origin("r", 1), tags)]
    found, _ = run("mask_substitution", given, model=masked, rate=1, times=5)
    assert found
    assert all(row.text().split(" ")[2] == "Wolf" and row.target == tags for row in found)


def test_an_encoder_that_was_never_trained_for_it_is_refused(bert_folder: Path) -> None:
    with pytest.raises(ModelError, match="no output layer for masked words yet"):
        run("mask_substitution", rows(), model=str(bert_folder))


# ---- paraphrase and back ---------------------------------------------------------------------------------------------


def speaker(answers: Callable[[str], str], heard: list[str] | None = None) -> Any:
    """Takes the place of load_rewriter: a model that says what `answers` gives."""

    def load(source: str, prompt: str, manner: Manner) -> Any:
        def answer(texts: Sequence[str], seeds: Sequence[int]) -> list[str]:
            if heard is not None:
                heard.extend(f"{source}: {prompt.replace('{text}', text)}" for text in texts)
            return [answers(text) for text in texts]

        return answer

    return load


def test_what_says_the_same_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        TEXTS[0]: "The old house and the new card, where are they?",
        TEXTS[1]: TEXTS[1].upper(),
        TEXTS[2]: "No 8, they are not",
    }
    monkeypatch.setattr(paraphrase, "load_rewriter", speaker(said.__getitem__))
    found, facts = run("paraphrase", rows(), model="x", encoder=None)
    assert [(row.text(), row.target, row.origin.parents) for row in found] == [(said[TEXTS[0]], "card", ("r:0",))]
    assert facts["without"] == {"another number": 1, "the same words": 1}


def test_the_way_back_translates_what_came_of_the_way_there(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    there, back = "Der kleine Wolf sang dem Mond", "The little wolf sang for the moon"
    words = {TEXTS[1]: there, there: back}
    monkeypatch.setattr(back_translation, "load_rewriter", speaker(lambda text: words.get(text, ""), heard))
    found, facts = run("back_translation", rows(), forth="f", back="b", forth_prompt="in German: {text}", encoder=None)
    assert [row.text() for row in found] == [back]
    assert heard == [*(f"f: in German: {text}" for text in TEXTS), f"b: {there}"]
    assert facts["without"] == {"nothing was said": 2}


def test_what_says_something_else_is_not_added(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {TEXTS[0]: "Where did the house and the card go?", TEXTS[1]: "All trains leave late tonight", TEXTS[2]: ""}
    monkeypatch.setattr(paraphrase, "load_rewriter", speaker(said.__getitem__))
    heard: list[Sequence[str]] = []

    def embedder(source: str) -> Any:
        def embed(texts: Sequence[str]) -> Any:
            heard.append(texts)
            return np.array([[0.6, 0.8] if "trains" in text else [1.0, 0.0] for text in texts], np.float32)

        return embed

    monkeypatch.setattr(rewrite, "_embedder", embedder)
    found, facts = run("paraphrase", rows(), model="x", alike=0.61)
    assert [row.text() for row in found] == [said[TEXTS[0]]]
    assert facts["without"] == {"another meaning": 1, "nothing was said": 1}
    assert heard == [[TEXTS[0], TEXTS[1]], [said[TEXTS[0]], said[TEXTS[1]]]]
    assert run("paraphrase", rows(), model="x", alike=0.59)[1]["variants"] == 2


def test_a_prompt_must_have_a_place_for_the_text() -> None:
    with pytest.raises(RecipeError, match="prompt"):
        build("steps", {"paraphrase": {"model": "x", "prompt": "Say it again"}})


def test_encoder_decoders_and_causal_models_say_something(tmp_path: Path, llama_folder: Path) -> None:
    folder = str(seq2seq_folder(tmp_path))
    options = {"model": folder, "prompt": "{text}", "temperature": 1.0, "max_new_tokens": 12, "encoder": None}
    found, facts = run("paraphrase", rows(), times=3, **options)
    assert facts["variants"] + sum(facts["without"].values()) == 9
    assert run("paraphrase", rows(), times=3, **options) == (found, facts)
    _, facts = run("paraphrase", rows()[:2], model=str(llama_folder), max_new_tokens=8, encoder=None)
    assert facts["variants"] + sum(facts["without"].values()) == 2


# ---- self-instruct ---------------------------------------------------------------------------------------------------


def chats(count: int = 6) -> list[Example]:
    things = ("river", "violin", "moon", "wolf", "house", "card")
    turns = [(Turn("user", f"Tell me all about the {things[n]}"), Turn("assistant", "It is.")) for n in range(count)]
    return [Example(f"c:{n}", {"messages": pair}, Origin("c", n + 1)) for n, pair in enumerate(turns)]


def asked(said: list[str], heard: list[str]) -> Any:
    waiting = iter(said)

    def load(source: str, manner: Manner) -> Any:
        def ask(prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
            heard.extend(prompts)
            return [next(waiting, "") if manner.temperature else f"Answer to: {prompt}" for prompt in prompts]

        return ask

    return load


def test_new_requests_are_filtered_answered_and_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    said = [
        "7. Write a short poem for a luthier",
        "Tell me all about the old river",  # like a row
        "Write a short poem for the luthier",  # like the new one
        "Draw a picture of a violin please",
        "Why?",
        "Explain how varnish is made, in two steps",
    ]
    monkeypatch.setattr(self_instruct, "asker", asked(said, heard))
    found, facts = run("self_instruct", chats(), model="x", count=2, shown=3)
    assert [row.text() for row in found] == [f"{text}\nAnswer to: {text}" for text in (said[0][3:], said[5])]
    assert facts["refused"] == {"asks for more than text": 1, "too like another request": 2, "too short or too long": 1}
    for row in found:
        assert len(set(row.origin.parents)) == 3
        assert set(row.origin.parents) <= {one.id for one in chats()}
    assert heard[0].count("\n") == 4
    assert heard[0].endswith("\n4.")


def test_making_up_ends_after_so_many_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(self_instruct, "asker", asked([], heard))
    found, facts = run("self_instruct", chats(), model="x", count=20, tries=2)
    assert found == []
    assert len(heard) == 40 == sum(facts["refused"].values())


def test_rows_that_are_no_conversations_make_up_nothing() -> None:
    found, facts = run("self_instruct", rows(), model="there is none", count=2)
    assert (found, facts["examples"]) == ([], 0)
