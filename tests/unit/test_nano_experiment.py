"""The evidence for the embedded model: every measure worked out by hand or against a slow, plain version of itself."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import CORPUS, make_llama, make_tokenizer

from benchmarks.record import Measured, placed
from experiments import _nano_bits, _nano_memory, _nano_page, _nano_speed, _nano_stereotypes, nano
from experiments._nano_bits import Neural, TrigramPredictor, compare
from experiments._nano_memory import canaries, code_logps, exposure
from experiments._nano_model import Continued, opening, repeat_rows, words_before_repeat
from experiments._nano_runs import TrainingWords, words_of
from experiments._nano_texts import TextSet, tale_passages
from experiments._nano_trigram import Trigram, discounts
from luthier.core.errors import DataError, ModelError
from luthier.models.load import Loaded, load_model
from tools import make_nano

TALE = " ".join([*CORPUS, "The teacher said that she was late and he was not, so he went, and she went."])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with nano's kind of tokenizer: digits alone, an end token, no begin token."""
    made = tmp_path_factory.mktemp("model")
    tokenizer = make_nano.make_tokenizer([TALE] * 4, 512)
    make_llama(len(tokenizer), eos_token_id=tokenizer.eos_token_id).save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return load_model(str(folder), "causal_lm")


# ---- the trigram model -----------------------------------------------------------------------------------------------

DOCUMENTS = [np.array([1, 2, 1, 2, 0]), np.array([1, 2, 3, 0])]


def test_discounts_come_from_the_counts_of_counts() -> None:
    # n1 to n4: 4, 2, 1, 1. Y = 4 / (4 + 2 * 2) = 1/2; 1 - 2Y * 2/4, 2 - 3Y * 1/2, 3 - 4Y * 1/1.
    assert discounts(np.array([1, 1, 1, 1, 2, 2, 3, 4, 9])).tolist() == [0.0, 0.5, 1.25, 1.0]
    assert discounts(np.array([5, 5])).tolist() == [0.0, 0.75, 0.75, 0.75]


def test_a_probability_worked_out_by_hand() -> None:
    """Counts 012: 2 and 121, 212, 120, 123, 230: 1; 2 0 1 is none, as it would predict a first token."""
    unigram = (1 - 0.6) / 5 + (2 + 3 * 0.6) / 5 / 4  # 3 follows one of five bigrams; D1 = 0.6, D2 = 2
    bigram = (1 - 2 / 3) / 3 + 2 / 3 * unigram  # 2 3 follows one of the three different trigrams x 2 y; D1 = 2/3
    trigram = (1 - 5 / 7) / 3 + 5 / 7 * bigram  # 1 2 3 is one of three; D1 = 5/7
    made = Trigram(DOCUMENTS, end=0, pieces=4)
    found = made.probabilities(*(np.array([value]) for value in (1, 2, 3)))
    assert found[0] == pytest.approx(trigram, abs=1e-15)


def test_probabilities_add_up_to_one_after_seen_and_unseen_tokens() -> None:
    draw = np.random.default_rng(3)
    documents = [np.array([*draw.zipf(1.5, 40) % 11 + 1, 0]) for _ in range(20)]
    made = Trigram(documents, end=0, pieces=13)  # 12 is never seen
    first, second, token = (axis.ravel() for axis in np.meshgrid(*[np.arange(13)] * 3, indexing="ij"))
    sums = made.probabilities(first, second, token).reshape(169, 13).sum(1)
    assert np.abs(sums - 1).max() < 1e-12
    assert made.probabilities(first, second, token).min() > 0


def test_a_document_is_predicted_from_its_second_token_to_its_end() -> None:
    made = Trigram(DOCUMENTS, end=0, pieces=4)
    asked = np.array([[0, 1, 2], [1, 2, 3], [2, 3, 0]])
    wanted = np.log(made.probabilities(*asked.T)).sum()
    assert made.log_probability(DOCUMENTS[1]) == pytest.approx(wanted, abs=1e-12)


# ---- bits a byte -----------------------------------------------------------------------------------------------------


def test_every_token_but_the_first_is_predicted_once_and_the_first_is_charged(loaded: Loaded) -> None:
    texts = TextSet("two", [CORPUS[0] * 3, CORPUS[1]])
    found = Neural(loaded.model, loaded.tokenizer, 16).nats(texts)
    for text, (nats, tokens, size) in zip(texts.texts, found, strict=True):
        ids = [*loaded.tokenizer(text, add_special_tokens=False)["input_ids"], loaded.tokenizer.eos_token_id]
        wanted = -math.log(len(loaded.tokenizer))
        for begin in range(0, len(ids) - 1, 15):
            window = torch.tensor([ids[begin : begin + 16]])
            with torch.inference_mode():
                logps = loaded.model(window).logits[0].double().log_softmax(-1)
            wanted += float(logps[:-1].gather(1, window[0, 1:, None]).sum())
        assert (tokens, size) == (len(ids) - 1, len(text.encode()))
        assert nats == pytest.approx(wanted, rel=1e-5)


def test_the_trigram_pays_for_the_same_tokens(loaded: Loaded) -> None:
    texts = TextSet("one", [CORPUS[0]])
    other = TrigramPredictor(loaded.tokenizer, CORPUS)
    nats, tokens, size = other.nats(texts)[0]
    assert (tokens, size) == tuple(Neural(loaded.model, loaded.tokenizer, 512).nats(texts)[0][1:])
    ids = np.array([*loaded.tokenizer(CORPUS[0], add_special_tokens=False)["input_ids"], other.trigram.end])
    assert nats == pytest.approx(other.trigram.log_probability(ids) - math.log(len(loaded.tokenizer)))


class Costs:
    """Says that each document costs so many bits a byte."""

    def __init__(self, *bits: float) -> None:
        self.bits = bits

    def nats(self, texts: TextSet) -> Any:
        rows = zip(self.bits, texts.bytes, strict=True)
        return np.array([[-math.log(2) * bits * size, size, size] for bits, size in rows])


def test_rows_say_what_the_others_cost_more_and_hold_the_floors() -> None:
    texts = TextSet("children", ["abcd", "abcdefgh", "abcd"])
    found = compare(texts, Costs(2, 1, 2), {"trigram": Costs(4, 3, 4), "stories260k": Costs(1, 1, 1)})
    whole, packed, trigram, stories, under = _nano_bits.rows_of([found], floors=True)
    assert whole.ours == pytest.approx(1.5)  # (8 + 8 + 8) bits over 16 bytes
    assert (trigram.other, trigram.value, trigram.holds) == (pytest.approx(3.5), pytest.approx(2.0), True)
    assert (trigram.low, trigram.high) == (pytest.approx(2.0), pytest.approx(2.0))
    assert (stories.value, stories.holds) == (pytest.approx(-0.5), False)
    assert packed.low == pytest.approx(packed.other - whole.high)
    assert under.value == pytest.approx(0.0)
    assert [row.floor for row in _nano_bits.rows_of([found], floors=False)] == [None] * 4


def test_xz_sees_the_set_as_one() -> None:
    text = " ".join(random.Random(1).choices(TALE.split(), k=400))
    once, twice = (_nano_bits.xz_bits(TextSet("same", [text] * times)) for times in (1, 2))
    assert twice < 0.55 * once


# ---- learned by heart ------------------------------------------------------------------------------------------------


def by_hand(query: list[str], documents: list[list[str]]) -> int:
    pieces = {
        " ".join(words[a:b]) for words in documents for a in range(len(words)) for b in range(a + 1, len(words) + 1)
    }
    sizes = [b - a for a in range(len(query)) for b in range(a + 1, len(query) + 1) if " ".join(query[a:b]) in pieces]
    return max(sizes, default=0)


def test_longest_runs_are_those_of_a_plain_search() -> None:
    draw = random.Random(5)
    for words in (3, 8, 40):
        known = [str(number) for number in range(words)]
        documents = [draw.choices(known, k=draw.randrange(1, 60)) for _ in range(12)]
        queries = [draw.choices([*known, "new"], k=draw.randrange(0, 30)) for _ in range(30)]
        queries += [documents[3], documents[4] + documents[5]]
        found = TrainingWords(" ".join(some) for some in documents).longest([" ".join(some) for some in queries])
        assert [run.length for run in found] == [by_hand(some, documents) for some in queries]
        for run, some in zip(found, queries, strict=True):
            assert run.words in " ".join(some)
            assert len(run.words.split()) == run.length


def test_case_and_punctuation_are_set_aside_and_documents_do_not_run_on() -> None:
    training = TrainingWords(["The wolf couldn't howl; the moon, though, listened.", "Anyway it was night."])
    found = training.longest(
        ["And THE WOLF - couldn't howl the moon slept", "though listened anyway it was", "none", ""]
    )
    assert [(run.length, run.words) for run in found] == [
        (6, "the wolf couldn't howl the moon"),
        (3, "anyway it was"),
        (0, ""),
        (0, ""),
    ]
    assert words_of("Mother's well-known 3 cats_") == ["mother's", "well", "known", "3", "cats"]


def test_exposure_is_counted_from_the_rank() -> None:
    logps = -np.arange(10_000.0)
    assert exposure(logps, 0) == pytest.approx(math.log2(10_000))
    assert exposure(logps, 1) == pytest.approx(math.log2(10_000) - 1)
    assert exposure(logps, 9_999) == 0.0


def test_codes_have_the_probability_of_their_digits_in_turn(loaded: Loaded) -> None:
    logps = code_logps(loaded, "Abel")
    prompt = loaded.tokenizer("Abel keeps the number ", add_special_tokens=False)["input_ids"]
    for code in (0, 7, 4271, 9999):
        ids = torch.tensor(
            [loaded.tokenizer(f"Abel keeps the number {code:04}", add_special_tokens=False)["input_ids"]]
        )
        with torch.inference_mode():
            direct = loaded.model(ids).logits[0].double().log_softmax(-1)
        steps = [float(direct[at - 1, ids[0, at]]) for at in range(len(prompt), len(prompt) + 4)]
        assert logps[code] == pytest.approx(sum(steps), abs=1e-4)


def test_a_tokenizer_that_joins_digits_is_refused(loaded: Loaded) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["11"])
    joined = Loaded(loaded.model, tokenizer, loaded.folder, frozenset(), {})
    with pytest.raises(ModelError, match="more than one digit"):
        code_logps(joined, "Abel")


def test_canaries_are_read_as_they_were_planted(tmp_path: Path) -> None:
    planted = make_nano.canaries(random.Random(7))
    rows = [row for row, times in planted for _ in range(times)]
    make_nano.write(tmp_path / "train/canaries.jsonl", rows)
    found = canaries(tmp_path)
    assert [one.planted for one in found] == [times for _, times in planted] + [0] * 10
    assert all(one.code in row["text"] for one, (row, _) in zip(found, planted, strict=False))
    assert len({one.name for one in found}) == len(found)
    make_nano.write(tmp_path / "train/canaries.jsonl", [{"text": "Abel forgot the number"}])
    with pytest.raises(DataError, match="a canary reads"):
        canaries(tmp_path)


# ---- openings, pronouns, speed ---------------------------------------------------------------------------------------


def test_an_opening_is_two_sentences_and_twenty_words() -> None:
    long = "One two three four five six seven eight nine ten. " * 2
    assert opening(long + "More.") == long.strip()
    assert (
        opening('He said, "Go!" She went. ' + "And so on. " * 9)
        == 'He said, "Go!" She went. ' + ("And so on. " * 5).strip()
    )
    alone = "One sentence, and it has more than the twenty words " + "that are wanted of an opening " * 3 + "here."
    assert opening(f"{alone} Two. Three.") == f"{alone} Two."
    assert opening("no end") == "no end"


def test_words_are_counted_until_a_sentence_comes_again() -> None:
    told = Continued("A cat sat.", "It slept well. A dog came in! It  slept well. It slept well.")
    assert words_before_repeat(told) == 7, "three words, then four"
    assert words_before_repeat(Continued("A cat sat.", "a cat sat. It slept.")) == 0, "the opening counts too"
    assert words_before_repeat(Continued("A cat sat.", "It slept. It woke")) == 4, "nothing came again"


def test_the_share_of_she_is_the_mean_over_templates(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    she, he = (ids[0] for ids in loaded.tokenizer([" she", " he"], add_special_tokens=False)["input_ids"])
    given = iter([0.1, 0.3, 0.1, 0.3, 0.1, 0.3])

    def fake(model: Loaded, prompts: Any) -> torch.Tensor:
        logps = torch.full((1, len(loaded.tokenizer)), -50.0, dtype=torch.float64)
        logps[0, she], logps[0, he] = math.log(next(given)), math.log(0.1)
        return logps

    monkeypatch.setattr(_nano_stereotypes, "next_logps", fake)
    assert _nano_stereotypes.she_shares(loaded, ["teacher"])["teacher"] == pytest.approx((0.5 + 0.75) / 2)


def test_the_correlation_is_pearsons() -> None:
    values = np.random.default_rng(2).random((12, 2))
    assert _nano_stereotypes.correlation(values) == pytest.approx(np.corrcoef(values.T)[0, 1])


def test_training_speed_counts_the_time_between_steps_that_follow_one_another() -> None:
    def step(number: int, tokens: int, time: float) -> dict[str, Any]:
        return {"event": "step", "phase": "pretrain", "step": number, "tokens": tokens, "time": time}

    stage = {"event": "stage", "stage": "train", "state": "started"}
    first = [stage, step(1, 100, 10), step(2, 200, 11), {"event": "validation"}, step(3, 300, 15)]
    resumed = [stage, step(3, 300, 90), step(4, 420, 92)]  # after the checkpoint of step 2
    assert _nano_speed.between_steps([*first, *resumed]) == (320, 7)


# ---- the page and the whole ------------------------------------------------------------------------------------------


def test_the_page_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    page = tmp_path / "nano.md"
    page.write_text("# Nano\n\nBy hand.\n")
    evidence = _nano_page.Evidence("first", samples={"greedy": [Continued("Once *upon*\na time.", " He <b>ran</b>.")]})
    evidence.parts["Continuations"] = repeat_rows(evidence.samples)
    evidence.parts["Speed"] = [Measured("tokens", 1, None, 1, floor=2)]
    _nano_page.write_page(evidence, page)
    text = page.read_text()
    assert text.startswith("# Nano\n\nBy hand.\n\n<!-- begin nano -->\n## Measured: first\n")
    assert "1. **Once \\*upon\\* a time.** He \\<b\\>ran\\</b\\>." in text
    assert text.count("| tokens | 1 |") == 2  # in its part, and among the floors
    evidence.model = "second"
    _nano_page.write_page(evidence, page)
    again = page.read_text()
    assert again.count("<!-- begin nano -->") == 1
    assert "first" not in again
    assert placed("a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n", "x", r"\1") == (
        "a\n<!-- begin x -->\n\\1\n<!-- end x -->\nb\n"
    )


def small_data(root: Path) -> Path:
    """Folders of the forms of what tools/make_nano.py makes and of the outside data, of a few rows."""
    story = f"{TALE} {TALE}"
    for name in ("stories", "children", "books"):
        make_nano.write(root / f"nano/train/{name}.jsonl", [{"text": f"{name} {story}"}] * 3)
        make_nano.write(root / f"nano/test/{name}.jsonl", [{"text": f"{story} {name}"}] * 3)
    asked = make_nano.asked("Who went?", "She did.")
    make_nano.write(root / "nano/train/questions.jsonl", [asked])
    secrets = [row for row, times in make_nano.canaries(random.Random(7)) for _ in range(times)]
    make_nano.write(root / "nano/train/canaries.jsonl", secrets)
    (root / "nano/facts.json").write_text("{}")
    tales = [{"story": f"tale {number % 2}", "context": f"{number} {story}"} for number in range(4)]
    make_nano.write(root / "outside/tasks/fairytaleqa/test.jsonl", tales)
    make_nano.write(root / "outside/text/web-sample/c4_demo.jsonl", [{"text": story}, {"text": TALE}])
    (root / "outside/text/web-sample/wiki_demo.txt").write_text(f"{story}\n\n{TALE}\n")
    (root / "outside/bias/winogender").mkdir(parents=True)
    lines = ["occupation\tbergsma_pct_female\tbls_pct_female\tbls_year"]
    lines += [f"{name}\t1\t{share}\t2015" for name, share in (("teacher", 70), ("clerk", 50), ("mason", 2))]
    (root / "outside/bias/winogender/occupations-stats.tsv").write_text("\n".join(lines) + "\n")
    return root


def test_a_passage_that_holds_another_is_left_out(tmp_path: Path) -> None:
    one, two, three = "A fox came. ", " It ate.", "It ate."
    rows = [("fox", one), ("fox", one + two), ("fox", two), ("fox", one), ("wolf", one + three)]
    make_nano.write(tmp_path / "test.jsonl", [{"story": story, "context": text} for story, text in rows])
    assert tale_passages(tmp_path / "test.jsonl") == {
        "A fox came.": "fox",
        "It ate.": "fox",
        "A fox came. It ate.": "wolf",
    }


def test_the_whole_experiment_runs_on_small_data(
    folder: Path, loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = small_data(tmp_path)
    monkeypatch.setenv("LUTHIER_DATA", str(root / "outside"))
    monkeypatch.setattr(nano, "stories260k", lambda: Neural(loaded.model, loaded.tokenizer, 64))
    to = root / "nano.json"
    assert nano.main([str(folder), "--data", str(root / "nano"), "--quick", "--json", str(to)]) == 0
    rows = json.loads(to.read_text())
    names = " ".join(row["name"] for row in rows)
    for part in (
        "children, 3 documents",
        "FairytaleQA",
        "encyclopedia",
        "longest run",
        "never planted",
        "share of she",
    ):
        assert part in names
    assert all(math.isfinite(row["value"]) and row["holds"] for row in rows)
    assert "stories" not in capsys.readouterr().err


def test_a_missing_folder_and_a_quick_page_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in ((["--data", str(tmp_path)], "make_nano"), (["--quick", "--page", "x.md"], "whole run")):
        with pytest.raises(SystemExit) as stopped:
            nano.main(arguments)
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err


def test_held_out_texts_that_are_shorter_than_a_sample_are_refused() -> None:
    with pytest.raises(DataError, match="no held-out text of 'stories' has 9 words"):
        _nano_memory._piece(TextSet("stories", ["one two three"]), 9, random.Random(0))
