"""Writes the data of the demo: letters to a repair shop for musical instruments, and the shop's answers.

    python tools/make_demo_data.py      rewrites src/luthier/embedded/data/repair-shop.jsonl, byte for byte the same

The shop answers in a house style (a greeting by instrument, what will be done, no price without a look, a closing) and
ends with one line that its booking system reads. That line follows from the letter by the shop's price list: the work
has a price class, large instruments are one class dearer, and so is a rush; days follow from the work and the urgency.
The file is as untidy as such files are: letters sent twice or sent again with a word changed, rows that a bad export
damaged, and personal data. All of it is invented: phone numbers come from ranges kept for fiction, mail addresses from
domains kept for examples, and the bank code of every account number is one that no bank holds.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from demo_words import ASIDES, ASKS, CLOSINGS, FRAMES, GREETINGS, NAMES, OPENERS, REPLIES, SIGNATURES, SYMPTOMS, URGENCY

TARGET = Path(__file__).parent.parent / "src/luthier/embedded/data/repair-shop.jsonl"
SEED = 1714
"""Any number would do; this one fixes the file."""

CLEAN, EXACT, NEAR, PERSONAL = 2210, 155, 130, 105
"""Rows without fault (of which PERSONAL carry personal data), copies, near copies; damaged rows come on top."""
DAMAGED = {"cut": 8, "no_answer": 7, "empty": 6, "wrong_type": 7, "mojibake": 9, "control": 8, "markup": 8}

FAMILIES = {
    "bowed": ("violin", "viola", "cello"),
    "plucked": ("guitar", "mandolin", "banjo"),
    "woodwind": ("flute", "clarinet", "saxophone"),
    "brass": ("trumpet",),
}
LARGE = frozenset({"cello", "saxophone"})
WORKS = {
    "bowed": ("bridge", "soundpost", "rehair", "pegs", "crack", "strings"),
    "plucked": ("frets", "nut", "tuners", "crack", "strings"),
    "woodwind": ("pads", "corks", "keys", "overhaul"),
    "brass": ("dent", "valves", "slide", "cleaning"),
}
PRICES = ("15-25", "30-45", "45-60", "70-95", "110-150", "180-240", "300-380")
"""Euros, from the cheapest class to the dearest."""
CLASSES = {
    **dict.fromkeys(("strings", "corks"), 0),
    **dict.fromkeys(("nut", "slide", "cleaning", "tuners", "soundpost"), 1),
    **dict.fromkeys(("rehair", "bridge", "pegs", "keys", "dent"), 2),
    **dict.fromkeys(("valves", "frets", "pads"), 3),
    **dict.fromkeys(("crack", "overhaul"), 4),
}
"""The price class of each work on an instrument of usual size, without a rush."""
DAYS = (1, 3, 4, 6, 10)
"""Working days by the work's own class; a rush takes half (rounded up), a customer with time waits twice."""
REFUSED = ("piano", "harp", "organ", "drum")
"""What the shop sends on to others."""


@dataclass(frozen=True)
class Letter:
    """One conversation that is in order: customer, what it is about, and the turns."""

    customer: str
    instrument: str
    work: str
    urgency: str
    turns: tuple[tuple[str, str], ...]

    def text(self) -> str:
        return "\n".join(content for _, content in self.turns)

    def record(self, number: int) -> dict[str, object]:
        messages = [{"role": role, "content": content} for role, content in self.turns]
        return {"id": f"letter-{number:04d}", "customer": self.customer, "messages": messages}


def ticket(instrument: str, work: str, urgency: str) -> str:
    """The line for the booking system, by the price list."""
    if work == "refer":
        return f"[ticket: instrument={instrument}; work=refer; urgency={urgency}; quote=none; days=0]"
    own = CLASSES[work]
    price = own + (instrument in LARGE) + (urgency == "rush")
    days = {"rush": (DAYS[own] + 1) // 2, "normal": DAYS[own], "relaxed": 2 * DAYS[own]}[urgency]
    return f"[ticket: instrument={instrument}; work={work}; urgency={urgency}; quote={PRICES[price]} EUR; days={days}]"


def answer(instrument: str, work: str, urgency: str) -> str:
    """The shop's reply: greeting, what will be done, closing, ticket."""
    kind = instrument if work != "refer" else "other"
    reply = REPLIES[work].replace("{i}", instrument)
    closing = CLOSINGS["refer" if work == "refer" else urgency]
    return f"{GREETINGS[kind]} {reply} {closing}\n{ticket(kind, work, urgency)}"


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """Runs of three words, by which copies are told from letters that merely resemble each other."""
    words = re.findall(r"\w+", text.lower())
    return frozenset(zip(words, words[1:], words[2:], strict=False))


def typo(text: str, draw: random.Random) -> str:
    """One slip of the finger in a word of five letters or more that names neither instrument nor work."""
    named = {name for family in FAMILIES.values() for name in family} | set(CLASSES) | set(REFUSED)
    spots = [
        m for m in re.finditer(r"\b[a-z]{5,}\b", text) if m.group() not in named and m.group().rstrip("s") not in named
    ]
    if not spots:
        return text
    spot = draw.choice(spots)
    at = draw.randrange(spot.start() + 1, spot.end() - 1)
    swapped = text[at + 1] + text[at]
    return text[:at] + draw.choice((swapped, text[at + 1], text[at] * 2 + text[at + 1])) + text[at + 2 :]


def question(instrument: str, work: str, urgency: str, draw: random.Random) -> str:
    """A letter about one work on one instrument, in one of many tones."""
    symptom = draw.choice(SYMPTOMS[work]).replace("{i}", instrument)
    body = draw.choice(FRAMES).replace("{i}", instrument).replace("{s}", symptom).replace("{S}", _capital(symptom))
    opener = draw.choice(OPENERS)
    goes_on = opener.endswith((",", ":")) and not body.startswith("I ")
    pieces = [opener, body[0].lower() + body[1:] if goes_on else _capital(body)]
    if draw.random() < 0.4:
        pieces.append(draw.choice(ASIDES))
    pieces.append(draw.choice(URGENCY[urgency]))
    if draw.random() < 0.65:
        pieces.append(draw.choice(ASKS))
    if draw.random() < 0.25:
        pieces.append(
            draw.choice(("Thanks!", "Thank you.", "Kind regards.", "Best wishes.", "Cheers", "Many thanks in advance."))
        )
    text = " ".join(piece for piece in pieces if piece)
    if draw.random() < 0.2:
        text = typo(text, draw)
    mood = draw.random()
    if mood < 0.12:
        text = text.lower()
    elif mood < 0.17:
        text = text.rstrip(".!?") + "!!"
    return text


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def letter(customer: str, draw: random.Random) -> Letter:
    """A letter that is in order, with the answer of the house; one in twelve takes two exchanges."""
    urgency = draw.choices(("normal", "rush", "relaxed"), (5, 3, 2))[0]
    if draw.random() < 0.03:
        instrument = draw.choice(REFUSED)
        asked = question(instrument, "refer", urgency, draw)
        return Letter(
            customer, "other", "refer", urgency, (("user", asked), ("assistant", answer(instrument, "refer", urgency)))
        )
    family = draw.choices(tuple(FAMILIES), (9, 8, 8, 4))[0]
    instrument, work = draw.choice(FAMILIES[family]), draw.choice(WORKS[family])
    last = (("user", question(instrument, work, urgency, draw)), ("assistant", answer(instrument, work, urgency)))
    if draw.random() < 1 / 12:
        first = draw.choice(
            ("Hello, do you mend a {i}?", "Do you take in a {i} as well?", "Is a {i} something you work on?")
        )
        welcome = f"{GREETINGS[instrument]} we do. What is wrong with your {instrument}?"
        symptom = _capital(draw.choice(SYMPTOMS[work]).replace("{i}", instrument))
        asked = f"{symptom}. {draw.choice(URGENCY[urgency])} {draw.choice(ASKS)}".replace("  ", " ")
        last = (("user", first.replace("{i}", instrument)), ("assistant", welcome), ("user", asked), last[1])
    return Letter(customer, instrument, work, urgency, last)


def letters(draw: random.Random) -> list[Letter]:
    """CLEAN letters and those that will be damaged, no two of them more alike than 0.7 in their runs of words."""
    wanted = CLEAN + sum(DAMAGED.values())
    found: list[Letter] = []
    seen: dict[tuple[str, str, str], list[frozenset[tuple[str, ...]]]] = {}
    while len(found) < wanted:
        # A customer writes more than once: a group that must stay in one split.
        new = letter(f"c{draw.randrange(640):03d}", draw)
        runs = shingles(new.text())
        # Only letters with the same answer can come near each other.
        alike = seen.setdefault((new.instrument, new.work, new.urgency), [])
        if len(new.text()) <= 460 and all(len(runs & other) < 0.7 * len(runs | other) for other in alike):
            alike.append(runs)
            found.append(new)
    return found


def with_personal_data(item: Letter, draw: random.Random) -> Letter:
    """The letter with a signature of invented personal data at the end of its last question."""
    first, family = draw.choice(NAMES[0]), draw.choice(NAMES[1])
    fields = {
        "name": f"{first} {family}",
        "mail": f"{first.lower()}.{family.lower()}@{draw.choice(('example.com', 'example.org', 'example.net'))}",
        "phone": draw.choice(
            (
                f"030 23125 {draw.randrange(1000):03d}",
                f"020 7946 0{draw.randrange(1000):03d}",
                f"(206) 555-01{draw.randrange(100):02d}",
            )
        ),
        "iban": iban(draw),
    }
    signed = draw.choice(SIGNATURES).format(**fields)
    turns = list(item.turns)
    turns[-2] = ("user", f"{turns[-2][1]} {signed}")
    return Letter(item.customer, item.instrument, item.work, item.urgency, tuple(turns))


def iban(draw: random.Random) -> str:
    """A German account number with right check digits; bank codes that begin with 9 are given to no bank."""
    account = f"99{draw.randrange(10**6):06d}{draw.randrange(10**10):010d}"
    # ISO 13616: country letters as numbers (D = 13, E = 14), check digits 00, remainder by 97.
    check = 98 - int(account + "131400") % 97
    code = f"DE{check:02d}{account}"
    return " ".join(code[at : at + 4] for at in range(0, len(code), 4))


def near_copy(item: Letter, draw: random.Random) -> Letter:
    """The same letter sent again with one small change in the question; the answer is the same."""
    turns = list(item.turns)
    asked = turns[-2][1]
    words = asked.split(" ")
    change = draw.randrange(4)
    if change == 0:
        asked += draw.choice((" Please reply.", " Thanks again.", " Sent twice, sorry."))
    elif change == 1:
        asked = draw.choice(("Again:", "Reminder:", "Once more:")) + " " + asked
    elif change == 2:
        words.insert(draw.randrange(1, len(words)), draw.choice(("really", "just", "also", "now")))
        asked = " ".join(words)
    else:
        asked = " ".join(words[:-1]) if words[-1].lower().strip(".!?") in ("thanks", "cheers") else asked + " Regards"
    turns[-2] = ("user", asked)
    return Letter(item.customer, item.instrument, item.work, item.urgency, tuple(turns))


def damage(kind: str, record: dict[str, object], draw: random.Random) -> str:
    """The row as a bad export would leave it, as a line of the file."""
    messages = record["messages"]
    assert isinstance(messages, list)
    last_question, last_answer = messages[-2], messages[-1]
    if kind == "cut":
        line = json.dumps(record, ensure_ascii=False)
        return line[: draw.randrange(len(line) // 3, len(line) - 5)]
    if kind == "no_answer":
        del messages[-1]
    elif kind == "empty":
        last_answer["content"] = draw.choice(("", "   ", "\n"))
    elif kind == "wrong_type":
        choice = draw.randrange(3)
        if choice == 0:
            record["messages"] = " | ".join(message["content"] for message in messages)
        elif choice == 1:
            last_answer["content"] = draw.randrange(1000)
        else:
            last_question["content"] = None
    elif kind == "mojibake":
        last_question["content"] += draw.choice(
            (" Grüße aus Köln.", " I am at the café until five.", " Merci, à bientôt.")
        )
        last_question["content"] = last_question["content"].encode("utf-8").decode("latin-1")
    elif kind == "control":
        words = last_question["content"].split(" ")
        words[len(words) // 2] += draw.choice(("\x00", "\x07", "\u200b", "\x1b"))
        last_question["content"] = " ".join(words) + "\x0c"
    else:
        wrap = draw.choice(("<p>{}</p>", "<div>{}<br/></div>", "{}&nbsp;<br>", "<b>{}</b>"))
        last_question["content"] = wrap.format(last_question["content"])
    return json.dumps(record, ensure_ascii=False)


def lines(seed: int = SEED) -> Iterator[str]:
    """The lines of the file, in order."""
    draw = random.Random(seed)
    rows = letters(draw)
    sound, broken = rows[:CLEAN], rows[CLEAN:]
    for index in draw.sample(range(CLEAN), PERSONAL):
        sound[index] = with_personal_data(sound[index], draw)
    picked = draw.sample(range(CLEAN), EXACT + NEAR)
    copies = [sound[index] for index in picked[:EXACT]]
    copies += [near_copy(sound[index], draw) for index in picked[EXACT:]]
    kinds: list[str | None] = [None] * (CLEAN + len(copies)) + [kind for kind, n in DAMAGED.items() for _ in range(n)]
    mixed = list(zip([*sound, *copies, *broken], kinds, strict=True))
    draw.shuffle(mixed)
    for number, (item, kind) in enumerate(mixed, start=1):
        record = item.record(number)
        yield damage(kind, record, draw) if kind else json.dumps(record, ensure_ascii=False)


def main() -> None:
    text = "".join(line + "\n" for line in lines())
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(text.encode("utf-8"))
    print(f"{TARGET.name}: {text.count(chr(10))} rows, {len(text.encode()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
