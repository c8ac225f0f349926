"""Tags and entities, and where they are data: in code, JSON and the rows of tables."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator

__all__ = ["is_about_code", "is_table", "protected", "without_markup"]

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
_CODE_OR_ROW = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`|^[ \t]*\|[^\n]*\|[ \t]*$", re.DOTALL | re.MULTILINE)
_JSON_START = re.compile(r"\{\s*\"|\[\s*[\[{\"]")
_JSON_TRIES = 50
"""Beginnings that are no JSON after all cost a look each."""
_INNER_TAB = re.compile(r"^[^\n]*\S\t+[^\n]*\S", re.MULTILINE)
_BREAK = re.compile(r"<br\s*/?>", re.I)
_TAG = re.compile(
    r"<(?P<end>/?)(?P<name>b|i|u|em|strong|span|font|a|small|sup|sub|p|div|li|ul|ol|h[1-6]|blockquote)(?:\s[^<>]*)?>",
    re.I,
)
_BLOCKS = frozenset({"p", "div", "li", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote"})
# An entity may itself have been escaped, many times over: &amp;amp;lt; is one sign.
_ENTITY = re.compile(r"&(?:amp;)*((?:[A-Za-z][A-Za-z0-9]{1,31}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});)")


def is_about_code(text: str) -> bool:
    """Whether tags and entities can be a row's matter; asked of the whole row, since a prompt tells of its answer."""
    return bool(_SPEAKS_OF_MARKUP.search(text)) or len(_CODE_LINE.findall(text)) > 1


def is_table(text: str) -> bool:
    """Whether tabs stand between the words of at least two lines: those at a line's end are then empty cells."""
    found = _INNER_TAB.finditer(text)
    return next(found, None) is not None and next(found, None) is not None


def protected(text: str) -> list[tuple[int, int]]:
    """Places, in order and apart, of code between backquotes, rows of tables between bars, and JSON."""
    places: list[tuple[int, int]] = []
    for start, end in sorted([*(match.span() for match in _CODE_OR_ROW.finditer(text)), *_json(text)]):
        if not places or start >= places[-1][1]:
            places.append((start, end))
        else:
            places[-1] = (places[-1][0], max(end, places[-1][1]))
    return places


def _json(text: str) -> Iterator[tuple[int, int]]:
    decoder, place = json.JSONDecoder(), 0
    for _ in range(_JSON_TRIES):
        start = _JSON_START.search(text, place)
        if start is None:
            return
        try:
            _, place = decoder.raw_decode(text, start.start())
        except (ValueError, RecursionError):
            place = start.end()
        else:
            yield start.start(), place


def without_markup(text: str) -> str:
    """The text with its entities resolved and without tags, outside of what is protected."""
    if "<" not in text and "&" not in text:
        return text
    pieces, place = [], 0
    for start, end in protected(text):
        pieces += [_prose(text[place:start]), text[start:end]]
        place = end
    return "".join([*pieces, _prose(text[place:])])


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
