"""The check text_match on answers made up here: values, the limit, samples, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import sacrebleu

from luthier.checks.text_match import TextMatch
from luthier.core.errors import DataError
from luthier.core.evidence import CheckContext
from luthier.core.example import Example, Origin, Turn
from luthier.evaluate.findings import findings


class Made:
    """A subject with given answers, by id."""

    name = "tuned"
    about = "greedy"

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers

    def generate(self, examples):
        return [self.answers[example.id] for example in examples]


def item(number: int, answer: str, target=None, story: str | None = None) -> Example:
    turns = (Turn("user", f"question {number}?"), Turn("assistant", answer))
    groups = {"story": story} if story else {}
    return Example(f"q{number}", {"messages": turns}, Origin("q.jsonl", number), target=target, groups=groups)


def context(**facts) -> CheckContext:
    return CheckContext(facts, 1, lambda path: ())


ITEMS = [item(1, "the wolf"), item(2, "a small moon"), item(3, "two hours", target=("two hours", "120 minutes"))]
ANSWERS = {"q1": "Wolf.", "q2": "the big moon rose", "q3": "120 minutes"}


def test_values_by_hand():
    check = TextMatch()
    scores = check.measure(Made(ANSWERS), check.examples(ITEMS, context()), context())
    found = {f.metric: f.value for f in findings({"tuned": scores}, check.measures({}), "text_match", 1)}
    assert found["exact"] == pytest.approx(2 / 3)
    assert found["token_f1"] == pytest.approx((1 + 2 / 5 + 1) / 3)  # small moon, big moon rose: 2 * 1 / (2 + 3)
    references = ["the wolf", "a small moon", "two hours"], ["the wolf", "a small moon", "120 minutes"]
    assert found["bleu"] == sacrebleu.corpus_bleu(list(ANSWERS.values()), list(references)).score
    assert set(found) == {"exact", "token_f1", "bleu", "rouge_1", "rouge_l"}
    assert scores.note == "greedy"


def test_samples_are_the_same_items_for_every_subject():
    check, items = TextMatch(samples=2), [item(i, f"answer {i}") for i in range(20)]
    first = check.measure(Made({f"q{i}": "x" for i in range(20)}), items, context())
    second = check.measure(Made({f"q{i}": "y" for i in range(20)}), items, context())
    assert [s.row for s in first.samples] == [s.row for s in second.samples]
    assert len(first.samples) == 2
    number = first.samples[0].row[1:]
    assert (first.samples[0].prompt, first.samples[0].wanted) == (f"question {number}?", f"answer {number}")
    assert (first.samples[0].answer, second.samples[0].answer) == ("x", "y")
    assert TextMatch(samples=0).measure(Made(ANSWERS), ITEMS, context()).samples == ()


def test_long_prompts_keep_beginning_and_end():
    turns = (Turn("system", "Be brief."), Turn("user", "B" + "x" * 5000 + "E?"), Turn("assistant", "yes"))
    long = Example("q1", {"messages": turns}, Origin("q.jsonl", 1))
    prompt = TextMatch().measure(Made({"q1": "yes"}), [long], context()).samples[0].prompt
    assert prompt.startswith("system: Be brief.\nuser: Bxx")
    assert prompt.endswith("xxE?")
    assert len(prompt) < 900


def test_the_limit_chooses_by_id_whatever_the_seed():
    items = [item(i, "a") for i in range(100)]
    check = TextMatch(limit=10)
    chosen = [example.id for example in check.examples(items, context())]
    other = [example.id for example in check.examples(items[::-1], CheckContext({}, 99, lambda path: ()))]
    assert len(chosen) == 10
    assert chosen == other[::-1]
    assert chosen != [f"q{i}" for i in range(10)]


def test_items_without_an_answer_are_left_out_and_none_at_all_is_refused():
    silent = Example("t", {"text": "just text"}, Origin("t.txt", 1))
    assert [e.id for e in TextMatch().examples([silent, *ITEMS], context())] == ["q1", "q2", "q3"]
    with pytest.raises(DataError, match="none of the 1 test items has a reference answer"):
        TextMatch().examples([silent], context())


def test_rows_cluster_by_what_the_split_goes_by():
    items = [item(1, "a", story="wolf"), item(2, "b", story="wolf"), item(3, "c", story="moon")]
    answers = Made({"q1": "a", "q2": "b", "q3": "c"})
    assert TextMatch().measure(answers, items, context(split_by="story")).clusters == ("wolf", "wolf", "moon")
    assert TextMatch().measure(answers, items, context()).clusters is None


def test_bleu_has_an_interval_and_a_paired_test():
    generator = np.random.default_rng(0)
    words = ["the", "moon", "listened", "to", "a", "small", "wolf", "at", "night"]
    items = [item(i, " ".join(generator.choice(words, 8))) for i in range(40)]
    base = {example.id: " ".join(generator.choice(words, 8)) for example in items}
    tuned = {e.id: e.parts["messages"][1].content if i % 2 else base[e.id] for i, e in enumerate(items)}
    check = TextMatch()
    scores = {
        "base": check.measure(Made(base), items, context()),
        "tuned": check.measure(Made(tuned), items, context()),
    }
    bleu = {
        f.subject: f for f in findings(scores, check.measures({}), "text_match", 1, resamples=200) if f.metric == "bleu"
    }
    assert bleu["change"].value == pytest.approx(bleu["tuned"].value - bleu["base"].value)
    assert 0 < bleu["change"].low < bleu["change"].value < bleu["change"].high
    assert bleu["change"].p < 0.05
