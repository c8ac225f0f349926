"""Lines of web pages that are not of their text: cookie notices, share bars, navigation, notices; and repeated lines.

A line is judged whole. It is boilerplate only where nothing else stands on it, so a sentence about cookies stays. Of a
text at least one line stays. The rules are ours, written from pages in English and German; they err to keeping.
"""

from __future__ import annotations

import re

from .markup import is_about_code, protected

__all__ = ["boilerplate", "without_boilerplate", "without_repeats"]

_LONGEST = 400
"""Characters of a line that may be boilerplate: a notice, not a paragraph."""

_COOKIES = re.compile(
    r"(?=.*\bcookies?\b)(?=.*\b(?:this|our|the) (?:web ?)?site\b|.*\bwe (?:and our partners )?use\b|.*\bdiese website\b"
    r"|.*\bunsere website\b|.*\bwir verwenden\b)"
    r"(?=.*\b(?:by (?:continuing|using|clicking)|you (?:agree|accept|consent)|accept(?: all)?\b|learn more"
    r"|find out more|privacy policy|cookie policy|ensure (?:that )?(?:you|we)|best experience|your experience"
    r"|zustimm|einverstanden|akzeptier|mehr erfahren|datenschutz))"
    r"|^(?:accept|reject|decline|allow|manage|alle) (?:all )?cookies(?: akzeptieren| ablehnen)?$"
    r"|^cookie[ -](?:settings|policy|preferences|notice|einstellungen)$",
    re.IGNORECASE,
)
_NETWORKS = "facebook|twitter|linkedin|pinterest|whatsapp|reddit|telegram|tumblr|instagram|youtube|email|e-mail|print"
_SHARE = re.compile(
    rf"^(?:(?:please )?(?:share|tweet|pin|teilen|like)(?: (?:it|this|us))?(?: (?:post|article|story|page|on|via|auf"
    rf"|with (?:your )?friends|:))*:?\W*)?(?:(?:(?:share|tweet|pin it|click to share|teilen)\W*(?:on|via|auf|to)?\W*)?"
    rf"(?:{_NETWORKS}|google\+)\b\W*(?:\d+\W*)?)+$"
    r"|^(?:share|tweet|teilen) (?:this|it|diesen)(?: \w+)?\W*$|^follow us(?: on)?\b[^.!?]{0,60}$",
    re.IGNORECASE,
)
_NAVIGATION = frozenset(
    re.split(
        r"\s*\|\s*",
        """home | homepage | start | startseite | menu | menü | search | suche | about | about us | über uns | contact
        | contact us | kontakt | login | log in | sign in | sign up | register | anmelden | registrieren | sitemap
        | site map | privacy | privacy policy | datenschutz | impressum | agb | terms | terms of use | terms of service
        | terms & conditions | terms and conditions | faq | faqs | help | hilfe | support | blog | news | shop | store
        | cart | warenkorb | my account | mein konto | checkout | gallery | products | services | careers | events
        | archives | archive | categories | previous | next | back | top | rss | disclaimer | legal | advertise
        | subscribe | newsletter | donate | jobs | presse | press""",
    )
)
_BUTTONS = re.compile(
    r"^(?:skip (?:to )?(?:the )?(?:main )?(?:content|navigation)|(?:back|return) to (?:the )?top|nach oben|zum inhalt"
    r"(?: springen)?|(?:read|show|load|view|see) (?:more|less|all)|continue reading|weiterlesen|mehr anzeigen|leave a"
    r" (?:reply|comment)|post (?:a )?comment|kommentar (?:schreiben|hinterlassen)|(?:previous|next|older|newer)"
    r" (?:post|posts|article|page|entries)|(?:sign up|subscribe|register) (?:for|to) (?:our|the)(?: \w+)? newsletter"
    r"|log in to (?:reply|comment|leave a comment)|you must be logged in to (?:post|leave) a (?:comment|reply)"
    r"|(?:\d+|no) comments?|comments? (?:off|are closed)(?: on .{0,80})?|advertisements?|anzeige|werbung|loading"
    r"|toggle navigation|add to (?:cart|wishlist)|in den warenkorb|print this (?:page|article)|permalink"
    r"|(?:please )?enable javascript\b.{0,120}"
    r"|(?:your browser|javascript) (?:does not|is not|must be|is disabled)\b.{0,120})\W*$",
    re.IGNORECASE,
)
_RIGHTS = re.compile(
    r"^\W*(?:(?:copyright\b|©|\(c\)).{0,60}\b(?:19|20)\d\d\b.{0,120}"
    r"|.{0,60}\b(?:19|20)\d\d\b.{0,60}\ball rights reserved\b.{0,80}|.{0,60}\ball rights reserved\b[\s.;,\d]*"
    r"|.{0,60}\balle rechte vorbehalten\b.{0,40})$",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\s*[|»›>•·/]\s*|\s{3,}|\t+")


def boilerplate(line: str) -> str | None:
    """What kind of boilerplate the line is ("cookie notice", "share bar", "navigation", "copyright"), or None."""
    line = line.strip()
    if not line or len(line) > _LONGEST:
        return None
    if "ookie" in line and _COOKIES.search(line):
        return "cookie notice"
    if len(line) <= 120 and _SHARE.match(line):
        return "share bar"
    if _RIGHTS.match(line):
        return "copyright"
    if _BUTTONS.match(line) or _is_navigation(line):
        return "navigation"
    return None


def _is_navigation(line: str) -> bool:
    """Three or more entries between separators, at least half of them those that menus have."""
    entries = [entry.strip(" .:").lower() for entry in _BETWEEN.split(line) if entry.strip(" .:")]
    known = sum(entry in _NAVIGATION for entry in entries)
    return len(entries) >= 3 and known >= 2 and 2 * known >= len(entries)


def without_boilerplate(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without its boilerplate lines, and the kinds of those, in order. Code, JSON and tables stay."""
    if "\n" not in text or is_about_code(text):
        return text, ()
    lines = text.split("\n")
    free = _free(text, lines)
    kinds = [boilerplate(line) if free[number] else None for number, line in enumerate(lines)]
    if not any(kinds) or not any(line.strip() for line, kind in zip(lines, kinds, strict=True) if kind is None):
        return text, ()
    kept = "\n".join(line for line, kind in zip(lines, kinds, strict=True) if kind is None)
    return kept, tuple(dict.fromkeys(kind for kind in kinds if kind))


def without_repeats(text: str, shortest: int) -> str:
    """The text without lines of at least `shortest` words that say what the line before says; blank lines between.

    Repeats that are not neighbors (refrains, headings) stay, and so do code, JSON and tables.
    """
    if "\n" not in text or is_about_code(text):
        return text
    lines = text.split("\n")
    free = _free(text, lines)
    kept, before = [], ""
    for number, line in enumerate(lines):
        said = " ".join(line.split()).casefold()
        if said and said == before and free[number] and len(said.split()) >= shortest:
            continue
        kept.append(line)
        before = said or before
    return text if len(kept) == len(lines) else "\n".join(kept)


def _free(text: str, lines: list[str]) -> list[bool]:
    """For each line, whether it lies outside of code, JSON and tables."""
    places, free, start, next_place = protected(text), [], 0, 0
    for line in lines:
        end = start + len(line)
        while next_place < len(places) and places[next_place][1] <= start:
            next_place += 1
        free.append(next_place == len(places) or places[next_place][0] >= max(end, start + 1))
        start = end + 1
    return free
