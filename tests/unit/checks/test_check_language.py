"""perplexity, forgetting and parity on tiny models, against plain transformers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny import make_llama

from luthier.checks.forgetting import Forgetting
from luthier.checks.parity import Parity
from luthier.checks.perplexity import Perplexity
from luthier.core.errors import DataError
from luthier.core.evidence import CheckContext
from luthier.core.example import Example, Origin, Turn
from luthier.core.recipe import Decoding
from luthier.data.encode import Encoding
from luthier.evaluate.findings import findings
from luthier.evaluate.subject import ModelSubject
from luthier.models.roles import role_of
from luthier.objectives.causal_lm import CausalLM

TEXTS = ["Once upon a time there was a small wolf.", "It costs 60 euros.", "The moon listened, naïvely."]


def text(number: int, content: str) -> Example:
    return Example(f"d{number}", {"text": content}, Origin("d.txt", number))


ITEMS = [text(number, content) for number, content in enumerate(TEXTS)]
CONTEXT = CheckContext({}, 1, lambda path: ITEMS)


def subject(name: str, model, tokenizer) -> ModelSubject:
    return ModelSubject(name, role_of(model, 0), Encoding(tokenizer, max_length=64), CausalLM(), Decoding(), 1)


def sums_by_hand(model, tokenizer, content: str) -> tuple[float, int]:
    ids = torch.tensor([*tokenizer(content, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id])
    with torch.no_grad():
        logps = model(ids[None]).logits[0].double().log_softmax(-1)
    return float(logps[:-1].gather(1, ids[1:, None]).sum()), len(ids) - 1


def test_perplexity_and_bits_equal_plain_transformers(llama, tokenizer):
    check = Perplexity()
    scores = check.measure(subject("tuned", llama, tokenizer), ITEMS, CONTEXT)
    found = {f.metric: f for f in findings({"tuned": scores}, check.measures({}), "perplexity", 1)}
    by_hand = [sums_by_hand(llama, tokenizer, content) for content in TEXTS]
    total, tokens = sum(s for s, _ in by_hand), sum(t for _, t in by_hand)
    assert found["perplexity"].value == pytest.approx(math.exp(-total / tokens), rel=1e-6)
    length = sum(len(content.encode()) for content in TEXTS)
    assert found["bits_per_byte"].value == pytest.approx(-total / math.log(2) / length, rel=1e-6)
    assert found["perplexity"].note.startswith("float32 on cpu")


def test_bytes_of_a_conversation_are_those_of_its_trained_turns(llama, tokenizer):
    turns = (Turn("user", "Wolf?"), Turn("assistant", "ï"), Turn("user", "?"), Turn("assistant", "no", train=False))
    one = Example("c", {"messages": turns}, Origin("c", 1))
    scores = Perplexity().measure(subject("tuned", llama, tokenizer), [one], CONTEXT)
    assert scores.values["log_probability"][0, 2] == 2


def test_items_without_anything_to_predict_are_left_out_and_counted(llama, tokenizer):
    empty = text(9, "")
    scores = Perplexity().measure(subject("tuned", llama, tokenizer), [*ITEMS, empty], CONTEXT)
    assert scores.rows == ("d0", "d1", "d2")
    assert "1 items without anything to predict" in scores.note
    with pytest.raises(DataError, match="none of the 1 items"):
        Perplexity().measure(subject("tuned", llama, tokenizer), [empty], CONTEXT)


def test_forgetting_reads_general_text_and_divides_tuned_by_base(llama, tokenizer):
    asked = []
    context = CheckContext({}, 1, lambda path: asked.append(path) or ITEMS)
    check = Forgetting(on="general.txt")
    items = check.examples([], context)
    assert asked == ["general.txt"]
    scores = {
        name: check.measure(subject(name, model, tokenizer), items, context)
        for name, model in (("base", llama), ("tuned", make_llama(seed=1)))
    }
    found = {(f.metric, f.subject): f for f in findings(scores, check.measures({}), "forgetting", 1)}
    ratio = found["perplexity_ratio", "tuned"]
    assert ratio.value == pytest.approx(
        found["perplexity", "tuned"].value / found["perplexity", "base"].value, rel=1e-12
    )
    assert ratio.low <= ratio.value <= ratio.high
    assert ratio.against == "base"
    assert ("perplexity_ratio", "base") not in found
    same = {"base": scores["base"], "tuned": scores["base"]}
    assert {f.value for f in findings(same, check.measures({}), "forgetting", 1) if f.metric == "perplexity_ratio"} == {
        1.0
    }


def test_parity_is_zero_for_the_same_model_and_finds_the_largest_difference(llama, tokenizer):
    check = Parity(rows=2)
    items = check.examples(ITEMS, CONTEXT)
    assert len(items) == 2
    other = make_llama()
    with torch.no_grad():
        other.model.norm.weight.mul_(1.001)
    one = subject("tuned", llama, tokenizer)
    scores = {
        "tuned": check.measure(one, items, CONTEXT),
        "merged": check.measure(subject("merged", llama, tokenizer), items, CONTEXT),
        "reloaded": check.measure(subject("reloaded", other, tokenizer), items, CONTEXT),
    }
    found = {f.subject: f for f in findings(scores, check.measures({}), "parity", 1)}
    assert set(found) == {"merged", "reloaded"}
    assert found["merged"].value == 0.0
    pairs = zip(one.token_logps(items), subject("x", other, tokenizer).token_logps(items), strict=True)
    assert found["reloaded"].value == max(float(np.abs(a - b).max()) for a, b in pairs) > 0
    assert found["reloaded"].against == "tuned"
    assert "float32 on cpu" in found["reloaded"].note
    assert found["reloaded"].low is None


class Made:
    """A subject with given log-probabilities."""

    name = "made"
    about = "made up"

    def __init__(self, rows, task="causal_lm") -> None:
        self.task = task
        self.rows = [np.array(row) for row in rows]

    def token_logps(self, examples):
        return self.rows

    def classify(self, examples):
        return np.array(self.rows)


def parity(tuned, merged, task="causal_lm") -> float:
    check, context = Parity(), CheckContext({}, 1, lambda path: ())
    made = {name: Made(rows, task) for name, rows in tuned_and(tuned, merged)}
    scores = {name: check.measure(one, ITEMS[: len(one.rows)], context) for name, one in made.items()}
    return findings(scores, check.measures({}), "parity", 1)[0].value


def tuned_and(tuned, merged):
    return ("tuned", tuned), ("merged", merged)


def test_parity_never_passes_what_cannot_be_compared():
    assert parity([[-1.0, -2.0], [-3.0]], [[-1.0, -2.5], [-3.0]]) == 0.5
    assert parity([[-1.0, -np.inf]], [[-1.0, -np.inf]]) == 0.0
    assert math.isnan(parity([[-1.0, math.nan]], [[-1.0, math.nan]]))
    assert math.isnan(parity([[-1.0, -2.0]], [[-1.0, -2.0, -3.0]]))  # more tokens in one than in the other
    assert parity([[-1.0, -2.0], [-1.0]], [[-1.0, -2.0], [-1.0, -0.5]]) == 1.5  # a token against none
    assert parity([[-1.0, -0.5]], [[-1.0, -0.25]], task="sequence_classification") == 0.25
