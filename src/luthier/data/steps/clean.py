"""Cleans text: mojibake, HTML remains, control and zero-width characters, Unicode form, stray whitespace.

Every change is named in the ledger; a row whose text or answer ends empty is dropped. What looks like code is left as
it is: tags and entities in fenced or inline code, and in rows that hold code or speak of HTML; indentation is never
touched. Errors: none. Source: the mojibake rule is our own, stricter than Speer's ftfy (2019): a text is
re-decoded only where all of its non-ASCII characters are UTF-8 read as Latin-1 or Windows-1252, and it round-trips.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.example import Example, Part, Target
from ..turns import has_content

__all__ = ["Clean"]

_Changes = tuple[tuple[str, Callable[[str], str]], ...]


class Clean(Step):
    """Repairs what is clearly damage, one row at a time; scope row."""

    scope: ClassVar[Literal["row", "corpus"]] = "row"
    example: ClassVar[Mapping[str, Any]] = {"unicode": "NFKC", "blank_lines": 1}

    mojibake: bool = Field(True, description="repair UTF-8 that was read as Latin-1 or Windows-1252")
    markup: bool = Field(True, description="resolve HTML entities and remove HTML tags outside code")
    control: bool = Field(True, description="remove control characters and terminal escapes, end lines with \\n")
    zero_width: bool = Field(True, description="remove byte order marks and zero-width characters without meaning")
    unicode: Literal["NFC", "NFKC", "off"] = Field("NFC", description="the Unicode normalization form")
    whitespace: bool = Field(True, description="remove whitespace at line ends, blank lines at both ends of a text")
    blank_lines: int = Field(2, ge=0, description="keep at most so many blank lines in a row (where whitespace is on)")

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        changes = {markup: tuple(self._chosen(markup)) for markup in (False, True)}
        for example in examples:
            made: dict[str, None] = {}
            cleaned = self._cleaned(example, changes, made)
            empty = _emptiness(cleaned)
            if empty:
                context.ledger.drop(example, empty)
                continue
            if made:
                context.ledger.change(example, cleaned, ", ".join(made))
            yield cleaned

    def _cleaned(self, example: Example, changes: Mapping[bool, _Changes], made: dict[str, None]) -> Example:
        """The example with its texts cleaned; the kinds of change are added to `made`."""
        cleaned = _changed(example, changes[False], made)
        whole = cleaned.text()
        # Asked of the cleaned text: what is still to be removed or normalized can hide the words that speak of code.
        if self.markup and ("<" in whole or "&" in whole) and not _is_about_code(whole):
            cleaned = _changed(cleaned, changes[True], made)
        if not made:
            return example
        origin = replace(example.origin, steps=(*example.origin.steps, self.component_name()))
        return replace(cleaned, origin=origin)

    def _chosen(self, markup: bool) -> Iterator[tuple[str, Callable[[str], str]]]:
        if self.mojibake:
            yield "mojibake", _without_mojibake
        if markup:
            yield "HTML", _without_markup
        if self.control:
            yield "control characters", _without_control
        if self.zero_width:
            yield "zero-width characters", _without_zero_width
        form = self.unicode
        if form != "off":
            yield form, lambda text: text if text.isascii() else unicodedata.normalize(form, text)
        if self.whitespace:
            yield "whitespace", lambda text: _without_stray_space(text, self.blank_lines)


def _changed(example: Example, changes: _Changes, made: dict[str, None]) -> Example:
    parts: dict[str, Part] = {}
    for name, part in example.parts.items():
        if name == "tools":  # JSON text, which cleaning could break
            parts[name] = part
        elif isinstance(part, str):
            parts[name] = _cleaned(part, changes, made)
        else:
            parts[name] = tuple(replace(turn, content=_cleaned(turn.content, changes, made)) for turn in part)
    target = _cleaned_target(example, changes, made)
    if parts == example.parts and target == example.target:
        return example
    return replace(example, parts=parts, target=target)


def _cleaned(text: str, changes: _Changes, made: dict[str, None]) -> str:
    """The text cleaned until nothing changes (an entity may hide a tag); the kinds of change are added to `made`."""
    # Most rows are one line of such characters: no change has anything to do there.
    if text.isascii() and text.isprintable() and not text.endswith(" ") and "<" not in text and "&" not in text:
        return text
    while True:  # every change but normalization shortens the text, and normalization has an end
        before = text
        for kind, change in changes:
            changed = change(text)
            if changed != text:
                made.setdefault(kind)
                text = changed
        if text == before:
            break
    return text


def _cleaned_target(example: Example, changes: _Changes, made: dict[str, None]) -> Target:
    """Reference answers are cleaned as the learned answer is; names of classes stay."""
    if "messages" not in example.parts or not isinstance(example.target, tuple):
        return example.target
    return tuple(filter(None, (_cleaned(answer, changes, made) for answer in example.target)))


def _emptiness(example: Example) -> str | None:
    """Why the row can no longer be used, or None."""
    for name, part in example.parts.items():
        if isinstance(part, str):
            if not part or part.isspace():
                return f"empty {name}"
            continue
        for number, turn in enumerate(part):
            if turn.role in ("user", "assistant") and not has_content(turn):
                last = number == len(part) - 1
                return "empty answer" if turn.role == "assistant" and last else "empty turn"
    return None


# ---- mojibake --------------------------------------------------------------------------------------------------------

_BYTE_OF = {
    bytes([value]).decode("cp1252"): value for value in range(0x80, 0xA0) if value not in b"\x81\x8d\x8f\x90\x9d"
}
_TO_BYTES = {ord(character): value for character, value in _BYTE_OF.items()}
_USUAL_LEADS = frozenset("ÂÃâðï")
_LEAD = re.compile("[\xc2-\xf4]")


def _without_mojibake(text: str) -> str:
    if text.isascii() or not _LEAD.search(text):
        return text
    try:
        raw = text.translate(_TO_BYTES).encode("latin-1")
        decoded = raw.decode("utf-8")
    except UnicodeError:
        return text
    if decoded.encode("utf-8") != raw:
        return text
    leads = [character for character in text if 0xC2 <= ord(character) <= 0xF4]
    # A capital before a quotation mark can look like one sequence ("CAFÉ™"), hardly like three; C1 controls are in no
    # text; and the leads of accents, punctuation and emoji are rarely meant as letters before such a sign.
    certain = len(leads) >= 3 or set(leads) <= _USUAL_LEADS or any("\x80" <= character < "\xa0" for character in text)
    return decoded if certain else text


# ---- markup ----------------------------------------------------------------------------------------------------------

_CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]+`)", re.DOTALL)
_SPEAKS_OF_MARKUP = re.compile(
    r"<!doctype|<html|<head|<body|<script|<style|<\?|</?\w[^<>\n]*>\W{0,2}\s*(?:tag|element)"
    r"|\b(?:html|css|xml|svg|jsx|react|javascript|php|angular|vue)\b",
    re.IGNORECASE,
)
_CODE_LINE = re.compile(
    r"^[ \t]*(?:def |class |import |from \w+ import|return\b|function\b|const |let |var |#include|public |echo |"
    r"print\()"
    r"|[;{}][ \t]*$|=>|=\{",
    re.MULTILINE,
)
_BREAK = re.compile(r"<br\s*/?>", re.I)
_TAG = re.compile(
    r"<(?P<end>/?)(?P<name>b|i|u|em|strong|span|font|a|small|sup|sub|p|div|li|ul|ol|h[1-6]|blockquote)(?:\s[^<>]*)?>",
    re.I,
)
_BLOCKS = frozenset({"p", "div", "li", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote"})
# An entity may itself have been escaped, many times over: &amp;amp;lt; is one sign.
_ENTITY = re.compile(r"&(?:amp;)*((?:[A-Za-z][A-Za-z0-9]{1,31}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});)")


def _without_markup(text: str) -> str:
    if "<" not in text and "&" not in text:
        return text
    pieces = _CODE.split(text)  # code stands at the odd places
    return "".join(piece if place % 2 else _prose(piece) for place, piece in enumerate(pieces))


def _is_about_code(text: str) -> bool:
    """Whether tags and entities can be a row's matter; asked of the whole row, since a prompt tells of its answer."""
    return bool(_SPEAKS_OF_MARKUP.search(text)) or len(_CODE_LINE.findall(text)) > 1


def _prose(text: str) -> str:
    return _ENTITY.sub(_entity, _without_pairs(_BREAK.sub("\n", text)))


def _entity(match: re.Match[str]) -> str:
    return " " if match[1] == "nbsp;" else html.unescape("&" + match[1])


def _without_pairs(text: str) -> str:
    """The text without tags that come in pairs; a block's end is a line's end. One pass, however they are nested."""
    open_tags: dict[str, list[re.Match[str]]] = {}
    gone: dict[int, tuple[int, str]] = {}
    for tag in _TAG.finditer(text):
        name = tag["name"].lower()
        if not tag["end"]:
            open_tags.setdefault(name, []).append(tag)
        elif open_tags.get(name):
            begin = open_tags[name].pop()
            gone[begin.start()] = (begin.end(), "")
            gone[tag.start()] = (tag.end(), "\n" if name in _BLOCKS else "")
    pieces, place = [], 0
    for start in sorted(gone):
        end, instead = gone[start]
        pieces += [text[place:start], instead]
        place = end
    return "".join([*pieces, text[place:]])


# ---- characters and whitespace ---------------------------------------------------------------------------------------

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LINE_END = re.compile(r"\r\n?|[\x0b\x0c\x85]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
# Joiners shape Persian, Indic scripts and emoji; between ASCII characters they are remains.
_ZERO_WIDTH = re.compile(r"[\u200b\u2060\ufeff\u180e]|(?<=[\x21-\x7e])[\u200c\u200d]+(?=[\x21-\x7e])")
_LINE_SPACE = re.compile(r"(?<![ \t])[ \t]+$", re.MULTILINE)  # tried once a run, not at each of its characters


def _without_control(text: str) -> str:
    if text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return _CONTROL.sub("", _LINE_END.sub("\n", _ESCAPE.sub("", text)))


def _without_zero_width(text: str) -> str:
    return text if text.isascii() else _ZERO_WIDTH.sub("", text)


def _without_stray_space(text: str, blank_lines: int) -> str:
    text = text.rstrip()
    if " \n" in text or "\t\n" in text:
        text = _LINE_SPACE.sub("", text)
    text = text.lstrip("\n")  # blank lines, not the first line's indentation
    if "\n" * (blank_lines + 2) in text:
        text = re.sub(rf"\n{{{blank_lines + 2},}}", "\n" * (blank_lines + 1), text)
    return text
