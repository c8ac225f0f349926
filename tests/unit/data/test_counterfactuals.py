"""The step counterfactuals: judged sentences, whole rows, pairs, modes, what makes no pair, the check of fluency."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from conftest import outside_data

from experiments._counterfactual_sentences import draw, judged
from experiments.counterfactuals import gender, right, share
from luthier.core.component import build
from luthier.core.contracts import StepContext
from luthier.core.example import Example, Origin, turns
from luthier.core.recipe import Data
from luthier.data.ledger import Entry, Ledger
from luthier.data.prepare import prepare
from luthier.models.likelihood import load_likelihood


def row(number: int, target: Any = None, groups: dict[str, str] | None = None, **parts: Any) -> Example:
    return Example(f"r:{number}", parts, Origin("rows.jsonl", number + 1), target, groups or {})


def run(
    rows: list[Example], split: str = "train", others: dict[str, list[Example]] | None = None, **options: Any
) -> tuple[list[Example], list[Entry], dict[str, Any]]:
    ledger = Ledger()
    context = StepContext(split, 1, ledger.page(split, "counterfactuals"), others or {})
    found = list(build("steps", {"counterfactuals": options}).run(rows, context))
    return found, list(ledger.entries), context.facts


# ---- judged sentences ------------------------------------------------------------------------------------------------


def test_judged_sentences_become_what_the_reader_said() -> None:
    data = outside_data("README.md").parent
    swapper = gender()
    for half in (0, 1):
        holds = [right(one, swapper) for one in judged(data) if one.half == half]
        assert len(holds) == 100
        assert share(holds)[0] >= 0.95


@pytest.mark.slow
def test_the_draw_repeats_itself() -> None:
    data = outside_data("README.md").parent
    assert [one.sentence for one in judged(data)] == draw(data)


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_a_pair_is_new_synthetic_and_told() -> None:
    rows = [row(0, text="She lost her hat."), row(1, text="Rain fell.")]
    found, entries, facts = run(rows)
    assert [example.id for example in found] == ["r:0", "r:0~gender", "r:1"]
    pair = found[1]
    assert pair.parts["text"] == "He lost his hat."
    assert pair.origin == Origin("rows.jsonl", 1, ("r:0",), ("counterfactuals",), True)
    assert [(entry.action, entry.id, entry.of, entry.kind) for entry in entries] == [
        ("added", "r:0~gender", "r:0", "counterfactual, gender")
    ]
    assert (facts["rows"], facts["made"], facts["words"]) == (2, 1, {"she > he": 1, "her > his": 1})


def test_answers_classes_and_groups_change_sides_with_the_row() -> None:
    talk = turns(("user", "Who is Mary's uncle?"), ("assistant", "He is James."))
    found, _, _ = run([row(0, ("James",), {"gender": "female", "topic": "kin"}, messages=talk)])
    pair = found[1]
    assert [turn.content for turn in pair.parts["messages"]] == ["Who is James's aunt?", "She is Mary."]
    assert pair.target == ("Mary",)
    assert pair.groups == {"gender": "male", "topic": "kin"}
    found, _, _ = run([row(0, "female", text="She sings."), row(1, "happy", text="He sings.")])
    assert [example.target for example in found] == ["female", "male", "happy", "happy"]


def test_tags_and_places_of_answers_still_fit() -> None:
    found, _, _ = run([row(0, ("B-PER", "O", "O", "B-PER"), tokens="Mary and her David")])
    assert (found[1].parts["tokens"], found[1].target) == ("James and his Linda", found[0].target)
    context = "Christopher met his wife Mary in May. Christopher left."
    starts = [context.index("his wife"), context.index("May"), context.rindex("Christopher")]
    asked = row(0, ("his wife", "May", "Christopher"), {"answer_starts": " ".join(map(str, starts))}, question="Who?")
    asked = Example(asked.id, {**asked.parts, "context": context}, asked.origin, asked.target, asked.groups)
    found, _, _ = run([asked])
    pair = found[1]
    assert pair.target == ("her husband", "May", "Jennifer")
    places = [int(start) for start in pair.groups["answer_starts"].split()]
    swapped = str(pair.parts["context"])
    assert [swapped[at : at + len(answer)] for at, answer in zip(places, pair.target, strict=True)] == list(pair.target)


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ({"text": "Marie Curie said that she was there."}, "a known person"),
        ({"text": "Sie sagte: das ist der Sohn, und his name ist nicht bekannt."}, "another language"),
        ({"text": "He sings.", "tokens": "a ladies' man"}, None),
    ],
)
def test_what_cannot_be_carried_along_makes_no_pair_and_is_told(parts: dict[str, str], kind: str | None) -> None:
    found, entries, facts = run([row(0, **parts)])
    if kind is None:
        assert len(found) == 2
        return
    assert [example.id for example in found] == ["r:0"]
    assert [(entry.action, entry.kind) for entry in entries] == [("noted", f"without counterfactual, {kind}")]
    assert facts["refused"] == {kind: 1}


def test_people_of_history_are_swapped_where_asked_and_bodies_are_noted() -> None:
    found, _, _ = run([row(0, text="Marie Curie said that she was there.")], people="swap")
    assert found[1].parts["text"] == "Marie Curie said that he was there."
    _, entries, _ = run([row(0, text="She was pregnant.")])
    assert [entry.reason for entry in entries] == ["speaks of the body: pregnant", "counterfactual, gender: 1 words"]


# ---- pairs and modes -------------------------------------------------------------------------------------------------


def test_a_pair_that_is_there_already_is_not_made_again_nor_put_into_two_splits() -> None:
    rows = [row(0, text="She sings."), row(1, text="He sings."), row(2, text="He reads.")]
    found, entries, _ = run(rows, others={"validation": [row(9, text="She reads.")]})
    assert found == rows
    assert [entry.reason.partition(", ")[2] for entry in entries] == [
        "there already: r:1",
        "there already: r:0",
        "there already: r:9",
    ]
    assert run([row(2, text="He reads.")], others={"test": [row(9, text="She reads.")]}, mode="replace")[0] == rows[2:]


def test_both_of_a_pair_lie_in_one_split(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    texts = [f"{person} has {number} hats." for number in range(30) for person in ("She", "The boy")]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    for on, splits in (("train", {"train"}), ("all", {"train", "validation", "test"})):
        data = Data.model_validate(
            {
                "train": str(path),
                "validation": 0.2,
                "test": 0.2,
                "steps": [{"counterfactuals": {"on": on, "pair": "pair"}}],
            }
        )
        found = prepare(data, 1).splits
        assert {name for name, rows in found.items() if any(one.origin.synthetic for one in rows)} == splits
        for rows in found.values():
            ids = {one.id for one in rows}
            pairs = [one for one in rows if one.origin.synthetic]
            assert all(set(one.origin.parents) <= ids for one in pairs)
            assert all(one.groups["pair"] == one.origin.parents[0] for one in pairs)


def test_modes_add_replace_or_take_half() -> None:
    rows = [row(number, text=f"She has {number} hats.") for number in range(200)]
    replaced, entries, _ = run(rows, mode="replace")
    assert [example.id for example in replaced] == [example.id for example in rows]
    assert all(str(example.parts["text"]).startswith("He ") for example in replaced)
    assert {entry.action for entry in entries} == {"changed"}
    halves, _, _ = run(rows, mode="both-halves")
    changed = {example.id for example in halves if str(example.parts["text"]).startswith("He ")}
    assert 70 <= len(changed) <= 130
    shuffled = random.Random(3).sample(rows, len(rows))
    again, _, _ = run(shuffled, mode="both-halves")
    assert {example.id for example in again if str(example.parts["text"]).startswith("He ")} == changed


def test_an_axis_from_a_file_draws_a_side_for_each_row(tmp_path: Path) -> None:
    file = tmp_path / "age.yaml"
    file.write_text("axis: age\nsides: [child, adult, elder]\nterms: [[young, grown, old]]\n")
    found, entries, facts = run(
        [row(number, text=f"A young man, {number}.") for number in range(40)], lexicon=str(file)
    )
    made = [str(example.parts["text"]) for example in found if example.origin.synthetic]
    assert len(made) == 40
    assert {text.split()[1] for text in made} == {"grown", "old"}
    assert {text.split()[0] for text in made if "old" in text} == {"An"}
    assert all(" man," in text for text in made)
    assert (facts["axis"], entries[0].kind) == ("age", "counterfactual, age")
    assert build("steps", {"counterfactuals": {"lexicon": str(file)}}).outside() == (str(file),)
    assert build("steps", "counterfactuals").outside() == ()


# ---- fluency ---------------------------------------------------------------------------------------------------------


def test_a_pair_that_the_model_finds_unlikely_is_left_out_and_told(llama_folder: Path) -> None:
    rows = [row(number, text=text) for number, text in enumerate(("She sings.", "His hat is old.", "Kings rule."))]
    model = load_likelihood(str(llama_folder))
    swapper = gender()
    ratios = [
        float(now / was)
        for was, now in zip(
            model.losses([one.text() for one in rows]),
            model.losses([swapper.swap(one.text()) for one in rows]),
            strict=True,
        )
    ]
    bound = sorted(ratios)[1]
    found, entries, facts = run(rows, fluency=str(llama_folder), ratio=bound + 1e-9)
    kept = {example.origin.parents[0] for example in found if example.origin.synthetic}
    assert kept == {one.id for one, ratio in zip(rows, ratios, strict=True) if ratio <= bound + 1e-9}
    told = [entry for entry in entries if entry.action == "noted"]
    assert [entry.reason for entry in told] == [
        f"without counterfactual, less fluent: {max(ratios):.2f} times the loss"
    ]
    assert facts["refused"] == {"less fluent": 1}


def test_a_loss_is_the_mean_over_predicted_tokens(llama_folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    likelihood = load_likelihood(str(llama_folder))
    texts = ["She sings a long song.", "No."]
    found = likelihood.losses(texts)
    model = AutoModelForCausalLM.from_pretrained(llama_folder).eval()
    for text, loss in zip(texts, found, strict=True):
        ids = torch.tensor(likelihood._tokens(text))[None]
        with torch.no_grad():
            assert loss == pytest.approx(float(model(input_ids=ids, labels=ids).loss), rel=1e-5)
