"""Writes the notes of the recipe "entities": who brought what to a repair shop, word by word, with what names what.

    python tools/make_name_data.py      rewrites shop-names.jsonl and shop-names-test.jsonl, byte for byte the same

Notes are put together from the sentences of make_question_data.py. The second file, which is for measuring, has people
and towns that the first does not name, in forms of sentences that the first does not use: neither a list of names nor
one of phrases learned by heart marks them. Spans are in BIO.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Formatter

from demo_words import NAMES
from make_question_data import ASIDES, DAYS, FAULTS, INSTRUMENTS, OPENINGS, PLACES, PRICES, SENTENCES, SPANS

__all__ = ["COUNTS", "FOLDER", "KINDS", "files"]

FOLDER = Path(__file__).parent.parent / "src/luthier/embedded/data"
SEED = 1698
"""Any number would do; this one fixes the files."""
COUNTS = {"shop-names.jsonl": 320, "shop-names-test.jsonl": 120}
KINDS = {
    "who": "person",
    "other": "person",
    "worker": "person",
    "town": "town",
    "what": "instrument",
    "another": "instrument",
    "price": "price",
    "sum": "price",
}
"""What the places of the sentences hold; what is in no other place is marked by nothing."""
TOWNS = (
    *("Mirecourt", "Cremona", "Markneukirchen", "Mittenwald", "Graslitz", "Elkhart", "Granada", "Paris", "Vienna"),
    *("Brescia", "Turin", "Naples", "Venice", "Bologna", "Nuremberg", "Leipzig", "Dresden", "Bubenreuth", "Berlin"),
    *("London", "Birmingham", "Edinburgh", "Lyon", "Nantes", "Brussels", "Ghent", "Amsterdam", "Prague", "Brno"),
    *("Budapest", "Krakow", "Warsaw", "Lisbon", "Porto", "Madrid", "Valencia", "Seville", "Boston", "Chicago"),
    *("Nashville", "Kalamazoo", "Toronto", "Osaka", "Nagoya", "Beijing", "Helsinki", "Oslo", "Uppsala", "Odense"),
)
TITLES = ("Mrs ", "Mr ", "Dr ", "old ", "the teacher ", "our neighbor ", "", "", "", "")

Words = Mapping[str, Sequence[str]]
Tagged = list[tuple[str, str]]


def words(*, measured: bool) -> Words:
    """People, towns and forms of sentences of one of the files: two thirds to learn from, the others to measure on."""
    first, family = NAMES
    parts = {
        "first": first,
        "family": family,
        "towns": random.Random(SEED).sample(TOWNS, len(TOWNS)),
        "opening": OPENINGS,
        "aside": ASIDES,
        **SENTENCES,
    }
    return {
        name: values[2 * len(values) // 3 :] if measured else values[: 2 * len(values) // 3]
        for name, values in parts.items()
    }


def person(own: Words, draw: random.Random) -> tuple[str, str]:
    """What goes before a name and belongs to none, and the name."""
    title, first, family = draw.choice(TITLES), draw.choice(own["first"]), draw.choice(own["family"])
    return title, draw.choice((family, f"{first} {family}") if title else (first, f"{first} {family}"))


def tagged(sentence: str, own: Words, draw: random.Random) -> Tagged:
    """The sentence's words with their tags."""
    what = draw.choice(INSTRUMENTS)
    values = {
        "what": what,
        "another": draw.choice(INSTRUMENTS),
        "town": draw.choice(own["towns"]),
        "year": str(draw.randrange(1790, 1995)),
        "fault": draw.choice(FAULTS[what]),
        "span": draw.choice(SPANS),
        "price": draw.choice(PRICES),
        "sum": draw.choice(PRICES),
        "place": draw.choice(PLACES),
        "day": draw.choice(DAYS),
    }
    found: Tagged = []
    for literal, place, _, _ in Formatter().parse(sentence):
        before, value = "", ""
        if place is not None:
            before, value = person(own, draw) if KINDS.get(place) == "person" else ("", values[place])
        found += [(token, "O") for token in _tokens(literal + before)]
        kind = KINDS.get(place or "")
        found += [
            (token, "O" if kind is None else f"{'I' if number else 'B'}-{kind}")
            for number, token in enumerate(_tokens(value))
        ]
    token, tag = found[0]
    return [(token[0].upper() + token[1:], tag), *found[1:]]


def notes(own: Words, draw: random.Random) -> Iterator[Tagged]:
    """Notes without end: one in two opens with who brought what, then come one to three other sentences."""
    while True:
        sentences = [draw.choice(own["opening"])] if draw.random() < 0.5 else []
        kinds = draw.sample(sorted(SENTENCES), draw.randint(1, 2))
        sentences += [draw.choice(own[kind]) for kind in kinds]
        if draw.random() < 0.5:
            sentences.append(draw.choice(own["aside"]))
        yield [one for sentence in sentences for one in tagged(sentence, own, draw)]


def files() -> dict[str, str]:
    """The contents of both files, by name; no note is there twice, also not once in each."""
    draw = random.Random(SEED)
    found: dict[str, str] = {}
    seen: set[str] = set()
    for name, count in COUNTS.items():
        rows: dict[str, dict[str, object]] = {}
        for note in notes(words(measured="test" in name), draw):
            tokens, tags = zip(*note, strict=True)
            text = " ".join(tokens)
            if text not in seen:
                seen.add(text)
                rows[text] = {"tokens": tokens, "tags": tags}
            if len(rows) == count:
                break
        numbered = ({"id": f"note-{number:03d}", **row} for number, row in enumerate(rows.values(), 1))
        found[name] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in numbered)
    return found


def _tokens(text: str) -> list[str]:
    return re.findall(r"\w+(?:'\w+)?|[^\w\s]", text)


def main() -> None:
    for name, text in files().items():
        (FOLDER / name).write_bytes(text.encode("utf-8"))
        print(f"{name}: {text.count(chr(10))} rows, {len(text.encode()) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
