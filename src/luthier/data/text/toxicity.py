"""Toxic words by category, and how toxic the worst passage of a text is.

The lexicon is small and our own; its categories follow those of Jigsaw's comment data (2018). Whole words count. Words
with an innocent sense (ass, cock, dick, tit, chink, faggot) are not listed bare, but in forms and phrases that leave
no doubt: donkeys, roosters, names, birds and firewood pass. A sign in place of a letter (sh1t, f**k) and lengthened
letters are seen through. It finds words, not intent: quotations count, irony and veiled hate do not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

__all__ = ["CATEGORIES", "Toxicity", "toxicity"]

CATEGORIES = ("profanity", "insult", "hate", "threat", "sexual")

# Weight: how toxic a passage is that holds nothing else.
_LEXICON: Sequence[tuple[str, float, str]] = (
    ("profanity", 0.1, "damn, goddamn, dammit, goddammit, crap, crappy, piss, pissed off, verdammt, verflucht"),
    ("profanity", 0.4, "shit, shits, shitty, shitting, bullshit, horseshit, shithead, pain in the ass, my ass, badass,"
                       " half-assed, scheiße, scheiß, scheisse, kacke"),
    ("profanity", 0.6, "fuck, fucks, fucked, fucker, fuckers, fucking, fuckin, fuckup, wtf, stfu, motherfucker,"
                       " motherfuckers, motherfucking, clusterfuck, verfickt, verfickte"),
    ("insult", 0.3, "idiot, idiots, idiotic, moron, moronic, morons, imbecile, dimwit, dumbass, jackass, nitwit,"
                    " scumbag, trottel, vollidiot, depp, blödmann, dummkopf"),
    ("insult", 0.6, "asshole, assholes, arsehole, arseholes, dickhead, dickheads, fuckwit, fuckface, douchebag,"
                    " son of a bitch, sons of bitches, bastards, piece of shit, kiss my ass, arschloch, arschlöcher,"
                    " drecksau, mistkerl, hurensohn, hurensöhne, wichser, missgeburt"),
    ("insult", 0.8, "you bitch, stupid bitch, fucking bitch, you dick, you pussy, cunt, cunts,"
                    " you whore, dumb whore, fuck you, fuck off, screw you, shut the fuck up,"
                    " schlampe, fotze, fick dich, verpiss dich, halt die fresse"),
    ("hate", 0.3, "you retard, you retards, a retard, white trash"),
    ("hate", 0.6, "tranny, trannies, shemale, darkie, darkies, subhuman, subhumans, untermensch,"
                  " untermenschen, ausländer raus, feminazi, libtard, libtards"),
    ("hate", 0.95, "nigger, niggers, nigga, niggas, kike, kikes, you faggot, you faggots, fucking faggot,"
                   " fucking faggots, faggots like, you fag, you fags, wetback, wetbacks,"
                   " gook, gooks, raghead, ragheads, towelhead, towelheads, sand nigger, beaner, beaners,"
                   " paki, pakis, you chink, fucking chink, fucking chinks,"
                   " chinks like, you spic, fucking spics, camel jockey, kanake, kanaken,"
                   " kümmeltürke, judensau, schwuchtel, schwuchteln, neger, heil hitler, sieg heil, white power,"
                   " gas the jews, race traitor"),
    ("threat", 0.5, "i will kill you, i'll kill you, i'm going to kill you, i am going to kill you, gonna kill you,"
                    " i will hurt you, ich bring dich um, ich werde dich töten"),
    ("threat", 0.85, "go kill yourself, just kill yourself, please kill yourself, should kill yourself, kys,"
                     " go hang yourself, i hope you die, you should die, you deserve to die, you people should die,"
                     " i will rape you, i'll rape you, bash your head in, beat the shit out of you, stirb endlich"),
    ("sexual", 0.4, "porn, porno, pornos, blowjob, blowjobs, handjob, milf, boobs, titties, horny, jerk off,"
                    " jerking off, wank, wanking, slut, sluts, whore, whores"),
    ("sexual", 0.7, "cumshot, cumshots, gangbang, gangbangs, deepthroat, creampie, suck my dick, suck my cock,"
                    " your pussy, her pussy, wet pussy, child porn, jailbait"),
)  # fmt: skip

_LOOKS: Mapping[str, str] = {"a": "a@4*", "e": "e3*", "i": "i1!*", "o": "o0*", "u": "uv*", "s": "s$5", "t": "t7"}
_PASSAGE = 100
"""Words of a passage."""


@dataclass(frozen=True)
class Toxicity:
    """score: of the worst passage, 0 to 1. categories: of all words found, the strongest first. words: how many."""

    score: float
    categories: tuple[str, ...] = ()
    words: int = 0


def toxicity(text: str) -> Toxicity:
    """1 - (1 - w1)(1 - w2)... over the entries found in a hundred successive words, each once, where highest."""
    found = list(_found(text))
    if not found:
        return Toxicity(0.0)
    strongest: dict[str, float] = {}
    for _, category, weight, _ in found:
        strongest[category] = max(weight, strongest.get(category, 0.0))
    places = [len(text[:start].split()) for start, _, _, _ in found] if len(text) > _PASSAGE else [0] * len(found)
    worst, first = 0.0, 0
    for last, place in enumerate(places):
        while places[first] <= place - _PASSAGE:
            first += 1
        entries = {entry: weight for _, _, weight, entry in found[first : last + 1]}
        worst = max(worst, 1 - math.prod(1 - weight for weight in entries.values()))
    return Toxicity(worst, tuple(sorted(strongest, key=lambda name: (-strongest[name], name))), len(found))


def _found(text: str) -> Iterator[tuple[int, str, float, str]]:
    """Where each word or phrase begins, its category and weight, and itself in lower case."""
    for match in _pattern().finditer(text.replace("’", "'")):
        category, weight, _ = _LEXICON[int(str(match.lastgroup)[1:])]
        yield match.start(), category, weight, match[0].lower()


@cache
def _pattern() -> re.Pattern[str]:
    """All entries, a group for each line of the lexicon; longer entries are tried first within a line."""
    # Insults of several words hold words of other lines: the heavier line comes first.
    order = sorted(range(len(_LEXICON)), key=lambda number: -_LEXICON[number][1])
    lines = []
    for number in order:
        entries = sorted(
            (entry.strip() for entry in _LEXICON[number][2].split(",")), key=lambda entry: (-len(entry), entry)
        )
        lines.append(f"(?P<g{number}>" + "|".join(map(_spelled, entries)) + ")")
    return re.compile(rf"(?<![\w@#./-])(?:{'|'.join(lines)})(?![\w*@])", re.IGNORECASE)


def _spelled(entry: str) -> str:
    """A pattern of the entry; its letters may be drawn out, its vowels hidden, after the first letter."""
    parts = []
    for place, letter in enumerate(entry):
        if letter == " ":
            parts.append(r"\s+")
        elif place and letter in _LOOKS and len(entry) > 3:
            parts.append(f"[{re.escape(_LOOKS[letter])}]+")
        else:
            parts.append(re.escape(letter) + ("+" if letter.isalpha() else ""))
    return "".join(parts)
