"""The step anonymize: what it replaces in a row, and what it keeps out of everything that is written down."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import luthier
from luthier.cli.main import main
from luthier.core.component import build
from luthier.core.contracts import StepContext
from luthier.core.errors import DataError, MissingExtra, ModelError, RecipeError
from luthier.core.example import Example, Origin, Turn
from luthier.core.recipe import Data
from luthier.data.ledger import Ledger
from luthier.data.personal import presidio
from luthier.data.personal.key import VARIABLE
from luthier.data.personal.spans import Span
from luthier.data.personal.tagger import Tagger
from luthier.data.prepare import prepare
from luthier.data.shelf import Disk

EMAIL, PHONE, CARD, PASSPORT = "ann.lee@corp.com", "(202) 456-1414", "4111 1111 1111 1111", "C01X00T47"
SECRETS = (EMAIL, PHONE, CARD, PASSPORT)
KEY = "a key for these tests alone"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, KEY)


def example(parts: Any, target: Any = None, groups: Any = None, name: str = "r:1") -> Example:
    parts = {"text": parts} if isinstance(parts, str) else parts
    return Example(name, parts, Origin("r.jsonl", 1), target, groups or {})


def run(rows: list[Example], **settings: Any) -> tuple[list[Example], Ledger, dict[str, Any]]:
    ledger, facts = Ledger(), {}
    context = StepContext("train", 1, ledger.page("train", "anonymize"), facts=facts)
    step = build("steps", {"anonymize": settings})
    return list(step.run(rows, context)), ledger, facts  # type: ignore[attr-defined]


# ---- rows ------------------------------------------------------------------------------------------------------------


def test_every_place_of_a_row_is_changed_and_alike() -> None:
    call = {
        "tool_calls": [{"function": {"name": "send", "arguments": json.dumps({"to": EMAIL, "text": "a\n" + EMAIL})}}]
    }
    turns = (
        Turn("user", f"I am {EMAIL}, passport number {PASSPORT}."),
        Turn("assistant", f"Noted {PASSPORT} and {EMAIL}.", extra=call),
    )
    tools = json.dumps([{"name": "send", "description": f'Asks "{EMAIL}"'}])
    row = example({"messages": turns, "tools": tools}, (f"Reach {EMAIL}", "no"), {"customer": EMAIL})
    (after,), ledger, facts = run([row])
    said = str(after)
    assert not any(secret in said for secret in SECRETS)
    user, answer = after.parts["messages"]
    address, passport = user.content[5:-1].split(", passport number ")  # type: ignore[union-attr]
    assert answer.content == f"Noted {passport} and {address}."  # type: ignore[union-attr]
    arguments = json.loads(answer.extra["tool_calls"][0]["function"]["arguments"])  # type: ignore[union-attr]
    assert arguments == {"to": address, "text": f"a\n{address}"}
    assert json.loads(after.parts["tools"]) == [{"name": "send", "description": f'Asks "{address}"'}]
    assert after.target == (f"Reach {address}", "no")
    assert after.groups == {"customer": address}
    assert facts == {"rows": 1, "found": {"email": 7, "passport": 2}, "key": f"from the environment ({VARIABLE})"}
    assert [entry.reason for entry in ledger.entries] == ["personal data: 7 email, 2 passport"]


def test_the_same_value_is_the_same_in_every_row_split_and_file_under_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (run([example(f"Mail {EMAIL}", name=name)])[0][0].text() for name in ("a:1", "b:2"))
    assert one == two
    monkeypatch.setenv(VARIABLE, "another key for these tests")
    assert run([example(f"Mail {EMAIL}")])[0][0].text() != one


@pytest.mark.parametrize(
    ("how", "text"),
    [("mask", "Mail [EMAIL] or call [PHONE]."), ("remove", "Mail or call .")],
)
def test_masks_and_removal_need_no_key(how: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "short")
    (after,), _, facts = run([example(f"Mail {EMAIL} or call {PHONE}.")], replace=how)
    assert after.text() == text
    assert "key" not in facts
    (again,), _, _ = run([after], replace=how)
    assert again is after


def test_tagged_tokens_stay_as_many_as_their_tags() -> None:
    row = example({"tokens": f"My card is {CARD} ok"}, ("O", "O", "O", "B-X", "I-X", "I-X", "I-X", "O"))
    for how in ("pseudonym", "mask", "remove"):
        (after,), _, _ = run([row], replace=how)
        assert len(str(after.parts["tokens"]).split(" ")) == 8
        assert after.target == row.target
        assert "1111 1111" not in after.text()


def test_a_space_within_a_token_parts_no_words() -> None:
    """The format `tags` writes a space inside a token as one that does not break."""
    row = example({"tokens": "call (202)\u00a0456-1414 now"}, ("O", "B-X", "O"))
    for how in ("pseudonym", "mask"):
        (after,), _, _ = run([row], replace=how)
        assert len(str(after.parts["tokens"]).split(" ")) == 3
        assert "456" not in after.text()


def test_a_row_of_nothing_else_is_dropped_and_its_text_is_not_kept() -> None:
    kept, ledger, _ = run([example(EMAIL), example("A story.", name="r:2")], replace="remove")
    assert [row.id for row in kept] == ["r:2"]
    assert [entry.reason for entry in ledger.entries] == ["nothing but personal data: 1 email"]
    assert EMAIL not in str(ledger)


def test_ids_that_are_personal_data_are_refused() -> None:
    with pytest.raises(DataError, match="ids are personal data") as caught:
        run([example("A story.", name=EMAIL)])
    assert "columns: {id: ''}" in str(caught.value)
    assert EMAIL not in str(caught.value)


def test_kinds_and_certainty_can_be_chosen() -> None:
    text = f"Mail {EMAIL} or call {PHONE}, see shop.com"
    (after,), _, _ = run([example(text)], kinds=["phone"], replace="mask")
    assert after.text() == f"Mail {EMAIL} or call [PHONE], see shop.com"
    (after,), _, _ = run([example(text)], certainty=0.4, replace="mask")
    assert after.text() == "Mail [EMAIL] or call [PHONE], see [URL]"
    with pytest.raises(RecipeError, match="did you mean 'email'"):
        build("steps", {"anonymize": {"kinds": ["emails"]}})


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([EMAIL, PHONE, CARD, "https://corp.com/a", "86.121.97.248", "219-09-9999"]), max_size=4)
)
def test_nothing_but_the_spans_changes(values: list[str]) -> None:
    words = ["Between", "these", "words,", "there\tstand", "values."]
    text = " ; ".join(f"{word} ; {value}" for word, value in zip(words, [*values, "none"] * 5, strict=False))
    kept, _, _ = run([example(text)])
    before, after = text.split(" ; "), kept[0].text().split(" ; ")
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        assert (old == new) is (old not in values)
        assert old in words or old == "none" or old not in new


# ---- what is written down --------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [
        {"text": f"<b>Write</b> to {EMAIL}"},
        {"text": f"<b>Write</b> to {EMAIL}"},
        {"text": f"<b>Write</b> to ann.lee@\u200bcorp.com or {PHONE}"},
        {"text": f"My passport number is {PASSPORT} and my card is {CARD}."},
        {"text": "A story of no one."},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + f'{{"text": "unreadable, of {EMAIL}\n')
    return path


def test_the_ledger_keeps_no_personal_data_also_of_earlier_steps(file: Path, tmp_path: Path) -> None:
    """Read, cleaned, deduplicated, then anonymized: each of the earlier entries held the values."""
    steps = ["clean", "deduplicate", "anonymize"]
    data = {"train": str(file), "steps": steps, "bad_rows": "quarantine"}
    found = prepare(Data.model_validate({**data, "steps": steps[:2]}), 1)
    before = str(list(found.ledger.entries))
    assert all(secret in before for secret in (EMAIL, PHONE))
    done = prepare(Data.model_validate(data), 1)
    entries = list(done.ledger.entries)
    after = str(entries)
    assert {(e.step, e.action) for e in entries} >= {
        ("read", "unread"),
        ("clean", "changed"),
        ("deduplicate", "dropped"),
    }
    assert not any(secret in after for secret in (*SECRETS, "corp.com", KEY))
    assert [len(e.id) > 0 for e in entries] == [True] * len(entries)
    dropped = next(e for e in entries if e.action == "dropped").dropped()
    assert dropped.text() == "Write to [EMAIL]"
    # On disk, in a process of its own, the same.
    disk = prepare(Data.model_validate(data), 1, Disk(tmp_path / "shelf", processes=1, shard=9))
    assert list(disk.ledger.entries) == entries
    assert [row.text() for row in disk.splits["train"]] == [row.text() for row in done.splits["train"]]
    assert disk.facts == done.facts


def test_the_command_and_python_write_nothing_personal_and_no_key(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    file.write_text("".join(line + "\n" for line in file.read_text().splitlines()[:-1]))
    main(["data", "anonymize", str(file), "--out", str(out)])
    shown = capsys.readouterr()
    written = out.read_text() + (tmp_path / "out.ledger.jsonl").read_text() + shown.out + shown.err
    assert not any(secret in written for secret in (EMAIL, PASSPORT, CARD, KEY))
    found = luthier.prepare(file, steps=["anonymize"])
    assert [row.text() for row in found.splits["train"]] == [
        json.loads(s)["text"] for s in out.read_text().splitlines()
    ]
    assert KEY not in json.dumps(found.summary)


# ---- other engines ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_presidio_works_behind_the_same_step() -> None:
    pytest.importorskip("presidio_analyzer")
    (after,), _, _ = run([example(f"Mail {EMAIL}, card {CARD.replace(' ', '')}.")], engine="presidio", replace="mask")
    assert after.text() == "Mail [EMAIL], card [CREDIT_CARD]."


def test_without_presidio_the_remedy_is_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    presidio.recognizers.cache_clear()
    with pytest.raises(MissingExtra, match=r"luthier\[presidio\]"):
        run([example("text")], engine="presidio")


@pytest.fixture(scope="module")
def tagger_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT without layers that tags by the word: `mary` opens a name, `smith` goes on, `paris` is a place."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "mary", "smith", "paris"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    labels = ["O", "B-PER", "I-PER", "B-LOC"]
    config = BertConfig(
        vocab_size=7,
        hidden_size=8,
        num_hidden_layers=0,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
    )
    model = BertForTokenClassification(config).eval()
    with torch.no_grad():
        for weights in (model.bert.embeddings.position_embeddings, model.bert.embeddings.token_type_embeddings):
            weights.weight.zero_()
        model.bert.embeddings.word_embeddings.weight.copy_(torch.eye(7, 8) * 9)
        model.classifier.weight.zero_()
        model.classifier.bias.zero_()
        model.classifier.weight[0, :4] = 9
        for label, word in ((1, 4), (2, 5), (3, 6)):
            model.classifier.weight[label, word] = 9
    folder = tmp_path_factory.mktemp("tagger")
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder


def test_a_tagging_model_finds_names_also_beyond_its_window(tagger_folder: Path) -> None:
    text = f"so mary smith of paris wrote to {EMAIL} " + "and on " * 30 + "then mary came"
    (after,), _, facts = run([example(text)], model=str(tagger_folder), replace="mask")
    assert after.text() == text.replace("mary smith", "[PERSON]").replace("paris", "[PLACE]").replace(
        EMAIL, "[EMAIL]"
    ).replace("mary", "[PERSON]")
    assert facts["found"] == {"email": 1, "person": 2, "place": 1}
    (named,), _, _ = run([example("so mary smith came, then mary went")], model=str(tagger_folder))
    first = named.text().split()[1]
    assert first not in ("mary", "smith")
    assert named.text().split()[5] == first


def test_a_mark_beside_a_name_is_none_of_it(tagger_folder: Path) -> None:
    """A word is judged by its first token: what stands beside it stays, its own later tokens go with it."""
    text = "(mary smith, smith's): mary, paris-smith."
    (after,), _, _ = run([example(text)], model=str(tagger_folder), replace="mask")
    assert after.text() == "([PERSON], [PERSON]'s): [PERSON], [PLACE]."


def test_one_letter_that_a_tagger_took_for_a_name_is_not_sought_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def find(self: Tagger, text: str) -> list[Span]:
        asked.append(text)
        return [Span(3, 4, "person", 0.9)] if text.startswith("By A") else []

    monkeypatch.setattr(Tagger, "find", find)
    (after,), _, _ = run([example({"text": "By A", "title": "A day"})], model="a folder", replace="mask")
    assert after.parts == {"text": "By [PERSON]", "title": "A day"}
    assert asked == ["By A", "A day"]  # not the id


def test_a_tagger_without_its_head_is_refused(tagger_folder: Path, tmp_path: Path) -> None:
    """transformers makes one up, and marks at random."""
    shutil.copytree(tagger_folder, tmp_path / "tagger")
    weights = tmp_path / "tagger" / "model.safetensors"
    save_file(
        {name: w for name, w in load_file(weights).items() if name != "classifier.weight"}, weights, {"format": "pt"}
    )
    with pytest.raises(ModelError, match=r"it lacks classifier\.weight"):
        run([example("mary came")], model=str(tmp_path / "tagger"))


def test_a_folder_without_a_tagger_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model that tags tokens"):
        run([example("mary came")], model=str(tmp_path))
