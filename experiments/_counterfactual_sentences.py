"""Two hundred sentences for judging gender swaps, drawn with a seed, and what a reader holds to be right for each.

The draw was made, and every sentence judged by hand, before there was any code that swaps. WinoBias gives 70 sentences,
BBQ 50, whole books 80, 60 of them with a pronoun. The file beside this one keeps source, row and edits, not the
sentences: an edit is (number of the word, the word, what it becomes). A name becomes "*": any name that is usual for
the other gender. A word is a run of letters, counted from 0.

How the judgments were made: one sentence stands for a whole row. Every person, animal and creature that is spoken of
changes gender, ships and countries do not; so do words for people in general where they are gendered ("men"), but not
fixed words ("mankind", "manner") and not God. Known people of history stay, and all that is said of them. Surnames and
names of places stay. "Mr" becomes "Mrs" and "Mrs", "Miss" and "Ms" become "Mr". Facts of the body stay where a swap
makes nonsense. The article before a word follows it.

One reader judged all of them and then wrote the code, so the second half was not run before the end but is not blind:
its sentences had been read. The versions that WinoBias itself gives are the other measure.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

__all__ = ["EDITS", "Judged", "Sentence", "draw", "judged", "winobias_pairs", "words"]

SEED = 20_260
EDITS = Path(__file__).with_name("_counterfactual_edits.jsonl")
_PRONOUN = re.compile(r"\b(?:he|she|him|her|his|hers|himself|herself)\b", re.IGNORECASE)
_END = re.compile(r"""(?<=[.!?])["'”’)]*\s+(?=["'“‘(]*[A-Z])""")
# Looked for in the last eight characters: a title, its marks, and what is before it.
_TITLES = re.compile(r"\b(?:Mrs?|Ms|Dr|St|Rev|Hon|Col|Capt|Gen|Prof|[A-Z])\.[\"']?$")
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Sentence:
    """A drawn sentence. row: the line of a file, or "line of the book:sentence", both from 0."""

    source: str
    row: str
    text: str

    @property
    def digest(self) -> str:
        """What shows that the sentence is the one that was judged."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Judged:
    """A sentence with the edits that a reader holds to be right. half: 0 seen while developing, 1 only at the end."""

    sentence: Sentence
    half: int
    edits: tuple[tuple[int, str, str], ...]


def words(text: str) -> list[str]:
    """The runs of letters of a text."""
    return _WORD.findall(text)


def draw(data: Path) -> list[Sentence]:
    """The two hundred sentences, in the order in which they were judged."""
    chance = random.Random(SEED)
    found = [
        *chance.sample(_winobias(data / "bias/winobias/data"), 70),
        *chance.sample(_bbq(data / "bias/bbq/Age.jsonl"), 35),
        *chance.sample(_bbq(data / "bias/bbq/Religion.jsonl"), 15),
    ]
    for name, count in (("children", 50), ("books", 30)):
        sentences = _of_books(data / f"text/{name}.jsonl.xz")
        spoken = [one for one in sentences if _PRONOUN.search(one.text)]
        found += chance.sample(spoken, count * 3 // 4 + (name == "books"))
        found += chance.sample(sentences, count - count * 3 // 4 - (name == "books"))
    return found


@cache
def judged(data: Path) -> tuple[Judged, ...]:
    """The sentences with their right edits, looked up by row. Errors: ValueError where the data is another."""
    lines = [json.loads(line) for line in EDITS.read_text(encoding="utf-8").splitlines()]
    sentences = _looked_up(data, [(line["source"], line["row"]) for line in lines])
    found = []
    for number, (sentence, line) in enumerate(zip(sentences, lines, strict=True)):
        if sentence.digest != line["digest"]:
            raise ValueError(f"sentence {number}, {sentence.source} {sentence.row}, is not the one that was judged")
        found.append(Judged(sentence, number % 2, tuple((at, old, new) for at, old, new in line["edits"])))
    return tuple(found)


def _looked_up(data: Path, places: Sequence[tuple[str, str]]) -> Iterator[Sentence]:
    lines: dict[str, list[str]] = {}
    for source, row in places:
        folder, _, name = source.rpartition("/")
        path = data / {"winobias": "bias/winobias/data", "bbq": "bias/bbq"}.get(folder, "text") / name
        if source not in lines:
            raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
            lines[source] = raw.decode().split("\n")
        number, _, place = row.partition(":")
        line = lines[source][int(number)]
        if place:
            text = next(islice(_sentences(json.loads(line)["text"]), int(place), None))
        else:
            text = _winobias_text(line) if folder == "winobias" else json.loads(line)["context"]
        yield Sentence(source, row, text)


def _winobias(folder: Path) -> list[Sentence]:
    found: dict[str, Sentence] = {}
    for path in sorted(folder.glob("*stereotyped_type?.txt.*")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            text = _winobias_text(line)
            found.setdefault(text, Sentence(f"winobias/{path.name}", str(number), text))
    return list(found.values())


def winobias_pairs(data: Path) -> list[tuple[str, str]]:
    """Every WinoBias sentence with its version of the other gender, both ways, as the set has them."""
    found = []
    for path in sorted((data / "bias/winobias/data").glob("anti_stereotyped_type?.txt.*")):
        other = path.with_name(path.name.replace("anti", "pro"))
        versions = [
            [_winobias_text(line) for line in file.read_text(encoding="utf-8").splitlines()] for file in (path, other)
        ]
        for anti, pro in zip(*versions, strict=True):
            found += [(anti, pro), (pro, anti)]
    return found


def _winobias_text(line: str) -> str:
    return re.sub(r"[\[\]]", "", line.partition(" ")[2]).strip()


def _bbq(path: Path) -> list[Sentence]:
    found: dict[str, Sentence] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        context = json.loads(line)["context"]
        found.setdefault(context, Sentence(f"bbq/{path.name}", str(number), context))
    return list(found.values())


def _of_books(path: Path) -> list[Sentence]:
    found = []
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            for place, text in enumerate(_sentences(json.loads(line)["text"])):
                if 6 <= len(words(text)) <= 35 and not text.isupper():
                    found.append(Sentence(path.name, f"{number}:{place}", text))
    return found


def _sentences(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text):
        held = ""
        for piece in _END.split(" ".join(paragraph.split())):
            held = f"{held} {piece}".strip()
            if not _TITLES.search(held[-8:]):
                yield held
                held = ""
        if held:
            yield held
