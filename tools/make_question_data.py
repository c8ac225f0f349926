"""Writes questions on the notes of a repair shop for musical instruments, and where in a note each answer stands.

    python tools/make_question_data.py      rewrites src/luthier/embedded/data/shop-questions.json, the same to the byte

Each note tells who brought what, and some of what is wrong, who mends it, how long that takes, what it costs and where
the instrument waits; some sentences speak of other people, instruments and sums. One question in four asks for what its
note does not tell. The file has the layout of SQuAD 2. All of it is invented.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["NOTES", "TARGET", "articles", "text"]

TARGET = Path(__file__).parent.parent / "src/luthier/embedded/data/shop-questions.json"
SEED = 1884
"""Any number would do; this one fixes the file."""
NOTES, ANSWERED, UNANSWERED = 150, 3, 1
"""Notes, and of each the questions with an answer and without one."""

_STRINGS = (
    "the neck has come loose",
    "a crack runs along the top",
    "the bridge leans",
    "the pegs slip in damp weather",
    "the fingerboard is worn through",
    "a seam has opened at the lower end",
    "the nut is too low",
    "there is a buzz in the low notes",
)
_REEDS = (
    "three pads no longer close",
    "one key is bent",
    "the corks have dried out",
    "a tenon has split",
    "the low notes will not speak",
)
_BRASS = (
    "the second valve sticks",
    "the bell is dented",
    "a brace has come off",
    "the water key leaks",
    "the tuning slide will not move",
)
FAULTS = {
    **dict.fromkeys(("violin", "viola", "cello", "guitar", "mandolin"), _STRINGS),
    **dict.fromkeys(("clarinet", "flute", "bassoon"), _REEDS),
    **dict.fromkeys(("trumpet", "horn"), _BRASS),
}
"""What may be wrong with each instrument."""
INSTRUMENTS = tuple(FAULTS)
CUSTOMERS = (
    "Mrs Alder", "Mr Birch", "old Tom Hazel", "Ines Roth", "the Kessler boy", "Father Dunn", "Lena Holm", "Mr Okoro",
    "a student called Pia", "the choir's Greta Lind", "Anton Vance", "Mrs Quill", "two brothers named Moss",
    "the teacher Paul Stern", "Nora Blum", "Dr Ferris",
)  # fmt: skip
PEOPLE = ("Jonas", "Mira", "the apprentice", "old Weber", "Sofia", "the new journeyman", "Emil", "Hanne")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
TOWNS = ("Mirecourt", "Cremona", "Markneukirchen", "Mittenwald", "Graslitz", "Elkhart", "Granada", "Paris", "Vienna")
SPANS = (
    "two days",
    "three days",
    "four working days",
    "nine days",
    "a week",
    "two weeks",
    "ten days",
)
PRICES = tuple(f"{euros} euros" for euros in (25, 40, 45, 60, 75, 90, 120, 140, 180, 240, 310))
PLACES = ("shelf 3", "shelf 7", "the rack", "the window sill", "the upper hook", "the long bench")

OPENINGS = (
    "{who} brought in a {what} on {day}.",
    "On {day} a {what} came in, carried by {who}.",
    "A {what} was left with us by {who}, on {day} before noon.",
)
SENTENCES: dict[str, tuple[str, ...]] = {
    "town": (
        "It was built in {town}.",
        "The label says {town}, which we believe.",
        "By its looks it comes from {town}.",
    ),
    "year": (
        "Inside somebody has written the year {year}.",
        "It was made in {year}.",
        "A stamp gives {year} as its year.",
    ),
    "fault": (
        "We found that {fault}.",
        "The trouble is plain: {fault}.",
        "At first sight {fault}, and little else is amiss.",
    ),
    "worker": ("{worker} will see to it.", "The work goes to {worker}.", "This is a job for {worker}, we decided."),
    "span": ("It will take {span}.", "We asked for {span}.", "{span} should do for all of it."),
    "price": (
        "The work comes to {price}.",
        "We agreed on {price}, strings not counted.",
        "{price} was named and accepted.",
    ),
    "place": ("Meanwhile it waits on {place}.", "Until then look for it on {place}.", "It was put on {place}."),
}
QUESTIONS: dict[str, tuple[str, ...]] = {
    "who": ("Who brought the {what}?", "Whose {what} is it?"),
    "day": ("When did the {what} come in?", "On which day did we get the {what}?"),
    "town": ("Where was the {what} built?", "Which town is the {what} from?"),
    "year": ("When was the {what} made?", "How old is the {what}, by its year?"),
    "fault": ("What is wrong with the {what}?", "Why does the {what} need work?"),
    "worker": ("Who mends the {what}?", "Whose job is the {what}?"),
    "span": ("How long will the {what} take?", "How much time does the work on the {what} need?"),
    "price": ("What does the work on the {what} cost?", "How much is to be paid for the {what}?"),
    "place": ("Where is the {what} kept?", "Where does the {what} wait?"),
}
ASIDES = (
    "The same morning {other} asked after a {another}, but took nothing.",
    "{other} paid {sum} for last month's {another}.",
    "The kettle has been mended at last, for {sum}.",
    "{other} wants to hear about the {another} next {day}.",
    "Rosin is running low again.",
    "Nobody came in the afternoon, since it rained.",
)


def note(draw: random.Random) -> tuple[str, dict[str, str]]:
    """A note, and what it tells, by kind: each is a part of it, and of nothing else in it."""
    while True:
        what = draw.choice(INSTRUMENTS)
        told = {
            "who": draw.choice(CUSTOMERS),
            "what": what,
            "day": draw.choice(DAYS),
            "town": draw.choice(TOWNS),
            "year": str(draw.randrange(1790, 1995)),
            "fault": draw.choice(FAULTS[what]),
            "worker": draw.choice(PEOPLE),
            "span": draw.choice(SPANS),
            "price": draw.choice(PRICES),
            "place": draw.choice(PLACES),
        }
        kinds = draw.sample(sorted(SENTENCES), draw.randint(4, 5))
        pieces = [draw.choice(SENTENCES[kind]) for kind in kinds] + draw.sample(ASIDES, 2)
        draw.shuffle(pieces)
        aside = {
            "other": draw.choice(CUSTOMERS),
            "another": draw.choice(INSTRUMENTS),
            "sum": draw.choice(PRICES),
            "day": draw.choice(DAYS),
        }
        said = draw.choice(OPENINGS).format(**told)
        for piece in pieces:
            values = told if piece not in ASIDES else aside
            said += " " + _capital(piece.format(**values))
        said = _capital(said)
        found = {kind: told[kind] for kind in ("who", "day", *kinds)} | {"what": told["what"]}
        if all(len(re.findall(rf"\b{re.escape(value)}\b", said, re.IGNORECASE)) == 1 for value in found.values()):
            return said, found


def articles(seed: int = SEED) -> Iterator[dict[str, Any]]:
    """A note each, with its questions."""
    draw = random.Random(seed)
    for number in range(1, NOTES + 1):
        said, told = note(draw)
        kinds = draw.sample(sorted(told.keys() & QUESTIONS.keys()), ANSWERED)
        kinds += draw.sample(sorted(QUESTIONS.keys() - told.keys()), UNANSWERED)
        asked = []
        for place, kind in enumerate(kinds, 1):
            row: dict[str, Any] = {
                "id": f"note-{number:03d}-{place}",
                "question": draw.choice(QUESTIONS[kind]).format(what=told["what"]),
            }
            if kind in told:
                start = said.lower().index(told[kind].lower())
                row["answers"] = [{"text": said[start : start + len(told[kind])], "answer_start": start}]
            else:
                row |= {"answers": [], "is_impossible": True}
            asked.append(row)
        yield {"title": f"note-{number:03d}", "paragraphs": [{"context": said, "qas": asked}]}


def text(seed: int = SEED) -> str:
    """The file: an article a line."""
    lines = ",\n".join(json.dumps(article, ensure_ascii=False) for article in articles(seed))
    return f'{{"version": "1", "data": [\n{lines}\n]}}\n'


def _capital(said: str) -> str:
    return said[0].upper() + said[1:]


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
