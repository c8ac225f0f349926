"""The demo's data is what its generator says, and as untidy, as short and as regular as it promises."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import make_demo_data as demo  # noqa: E402

DATA = ROOT / "src/luthier/embedded/data"
TICKET = re.compile(
    r"\[ticket: instrument=(\w+); work=(\w+); urgency=(normal|rush|relaxed); quote=(none|\d+-\d+ EUR); days=(\d+)\]$"
)


def lines() -> list[str]:
    return (DATA / "repair-shop.jsonl").read_text(encoding="utf-8").splitlines()


def readable() -> list[dict[str, Any]]:
    """Rows that can be read: JSON, messages a list of turns with text, the last one an answer."""
    rows = []
    for line in lines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        turns = row["messages"]
        if not isinstance(turns, list) or turns[-1]["role"] != "assistant":
            continue
        if all(isinstance(turn["content"], str) and turn["content"].strip() for turn in turns):
            rows.append(row)
    return rows


def text(row: dict[str, Any]) -> str:
    return "\n".join(turn["content"] for turn in row["messages"])


def test_the_generator_rewrites_the_file_byte_for_byte() -> None:
    written = (DATA / "repair-shop.jsonl").read_bytes()
    assert "".join(line + "\n" for line in demo.lines()).encode() == written
    assert len(written) < 1_500_000


def test_another_seed_gives_other_rows() -> None:
    assert next(demo.lines(seed=2)) != lines()[0]


def test_counts_of_rows_copies_and_damage() -> None:
    rows = readable()
    unreadable = sum(demo.DAMAGED[kind] for kind in ("cut", "no_answer", "empty", "wrong_type"))
    assert len(lines()) == demo.CLEAN + demo.EXACT + demo.NEAR + sum(demo.DAMAGED.values()) >= 2400
    assert len(lines()) - len(rows) == unreadable
    copies = len(rows) - len({text(row) for row in rows})
    assert copies == demo.EXACT
    ids = [row["id"] for row in rows]
    assert len(set(ids)) == len(ids)


def test_near_copies_are_close_and_other_letters_are_not() -> None:
    seen = {text(row): row for row in readable()}
    by_answer: dict[str, list[frozenset[tuple[str, ...]]]] = defaultdict(list)
    close = between = 0
    for content, row in seen.items():
        runs = demo.shingles(content)
        others = by_answer[row["messages"][-1]["content"]]
        alike = max((len(runs & other) / len(runs | other) for other in others), default=0.0)
        close += alike >= 0.8
        between += 0.72 < alike < 0.8
        others.append(runs)
    assert close == demo.NEAR
    assert between <= 25, "personal data and damage shift a few letters, no more"


def test_damage_that_cleaning_can_mend_is_there() -> None:
    questions = [row["messages"][-2]["content"] for row in readable()]
    assert sum(bool(re.search(r"Ã.", question)) for question in questions) == demo.DAMAGED["mojibake"]
    assert sum("\x0c" in question for question in questions) == demo.DAMAGED["control"]
    assert sum(bool(re.search(r"</?(p|div|b|br)/?>", question)) for question in questions) == demo.DAMAGED["markup"]


def test_every_answer_ends_in_the_ticket_of_the_price_list() -> None:
    prices: dict[tuple[str, str, str], set[tuple[str, str]]] = defaultdict(set)
    for row in readable():
        match = TICKET.search(row["messages"][-1]["content"])
        assert match, row["messages"][-1]["content"]
        instrument, work, urgency, quote, days = match.groups()
        prices[instrument, work, urgency].add((quote, days))
        asked = " ".join(turn["content"] for turn in row["messages"][:-1]).lower()
        named = {name for family in demo.FAMILIES.values() for name in family if re.search(rf"\b{name}\b", asked)}
        assert named == ({instrument} if work != "refer" else set())
        if work == "rehair":
            assert {"bow", "hair"} <= set(re.findall("bow|hair", asked))
        elif work != "refer":
            assert work.rstrip("s") in asked
    assert all(len(found) == 1 for found in prices.values())


@pytest.mark.parametrize(
    ("case", "quote", "days"),
    [
        (("violin", "bridge", "normal"), "45-60", 4),
        (("cello", "bridge", "normal"), "70-95", 4),
        (("violin", "bridge", "rush"), "70-95", 2),
        (("cello", "crack", "rush"), "300-380", 5),
        (("guitar", "strings", "relaxed"), "15-25", 2),
        (("trumpet", "valves", "rush"), "110-150", 3),
    ],
)
def test_tickets_worked_out_by_hand(case: tuple[str, str, str], quote: str, days: int) -> None:
    assert demo.ticket(*case).endswith(f"quote={quote} EUR; days={days}]")


def test_what_the_shop_does_not_mend_is_referred() -> None:
    assert demo.answer("piano", "refer", "rush").endswith(
        "[ticket: instrument=other; work=refer; urgency=rush; quote=none; days=0]"
    )


def test_copies_stay_with_their_customer() -> None:
    owners = defaultdict(set)
    for row in readable():
        owners[text(row)].add(row["customer"])
    assert all(len(customers) == 1 for customers in owners.values())
    assert len({row["customer"] for row in readable()}) > 500


def test_personal_data_is_invented() -> None:
    asked = [row["messages"][-2]["content"] for row in readable()]
    mails = [found for question in asked for found in re.findall(r"[\w.]+@[\w.]+\w", question)]
    accounts = [
        found.replace(" ", "") for question in asked for found in re.findall(r"DE\d\d(?: \d{1,4}){5}", question)
    ]
    phones = [found for question in asked for found in re.findall(r"(?:030|020|\(\d{3}\)) [\d -]{6,10}\d", question)]
    assert min(len(mails), len(accounts), len(phones)) > 15
    assert all(mail.split("@")[1] in ("example.com", "example.org", "example.net") for mail in mails)
    assert all(phone.startswith(("030 23125 ", "020 7946 0", "(206) 555-01")) for phone in phones)
    for account in (found.replace(" ", "") for found in accounts):
        assert len(account) == 22
        assert account[4] == "9"
        assert int(account[4:] + "1314" + account[2:4]) % 97 == 1


def test_a_conversation_is_short_for_a_small_vocabulary() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    general = [json.loads(line)["text"] for line in (DATA / "general.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [text(row) for row in readable()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    # Only a tenth of the letters, so that the vocabulary is not made for this text alone.
    tokenizer.train_from_iterator(general * 3 + rows[::10], trainers.BpeTrainer(vocab_size=4096, show_progress=False))
    lengths = sorted(len(found.ids) for found in tokenizer.encode_batch(rows))
    assert lengths[-1] + 16 <= 175
    assert lengths[len(lengths) * 95 // 100] + 16 < 150, "16 tokens are left for the chat template"


def test_the_general_text_is_eighty_paragraphs_of_their_own() -> None:
    rows = [json.loads(line) for line in (DATA / "general.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [set(row) for row in rows] == [{"text"}] * 80
    assert all(300 <= len(row["text"]) <= 600 for row in rows)
    assert max(Counter(row["text"][:40] for row in rows).values()) == 1
    runs = [demo.shingles(row["text"]) for row in rows]
    assert max(len(a & b) for i, a in enumerate(runs) for b in runs[:i]) <= 6
