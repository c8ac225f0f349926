"""Cleans text: mojibake, HTML remains, control and zero-width characters, Unicode form, boilerplate, stray whitespace.

Every change is named in the ledger; a row whose text or answer ends empty is dropped. What is data is left as it is:
tags and entities in code, JSON and the rows of tables, and in rows that hold code or speak of HTML; empty cells at the
end of a table's line; indentation. Boilerplate and repeated lines are taken from documents (the part "text") alone: in
a conversation they may be what was asked for. Errors: none. Source: mojibake by ftfy (Speer 2019), line by line.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, ClassVar, Literal

from pydantic import Field

from ...core.contracts import Step, StepContext
from ...core.example import Example, Part, Target
from ..text.lines import without_boilerplate, without_repeats
from ..text.markup import is_about_code, is_table, without_markup
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
    boilerplate: bool = Field(
        True, description="remove from documents lines that are cookie notices, share bars, navigation or copyright"
    )
    repeats: int = Field(
        0, ge=0, description="remove from documents lines of so many words or more that repeat the line before; 0: none"
    )
    whitespace: bool = Field(True, description="remove whitespace at line ends, blank lines at both ends of a text")
    blank_lines: int = Field(2, ge=0, description="keep at most so many blank lines in a row (where whitespace is on)")

    def run(self, examples: Iterable[Example], context: StepContext) -> Iterator[Example]:
        changes = {markup: tuple(self._chosen(markup)) for markup in (False, True)}
        for example in examples:
            made: dict[str, str] = {}
            cleaned = self._cleaned(example, changes, made)
            empty = _emptiness(cleaned)
            if empty:
                context.ledger.drop(example, empty)
                continue
            if made:
                details = made.get("boilerplate")
                context.ledger.change(example, cleaned, ", ".join(made) + (f": {details}" if details else ""))
            yield cleaned

    def _cleaned(self, example: Example, changes: Mapping[bool, _Changes], made: dict[str, str]) -> Example:
        """The example with its texts cleaned; the kinds of change are added to `made`."""
        cleaned = _changed(example, changes[False], made)
        whole = cleaned.text()
        # Asked of the cleaned text: what is still to be removed or normalized can hide the words that speak of code.
        if self.markup and ("<" in whole or "&" in whole) and not is_about_code(whole):
            cleaned = _changed(cleaned, changes[True], made)
        cleaned = self._without_lines(cleaned, made)
        if not made:
            return example
        origin = replace(example.origin, steps=(*example.origin.steps, self.component_name()))
        return replace(cleaned, origin=origin)

    def _without_lines(self, example: Example, made: dict[str, str]) -> Example:
        """The example without lines that are not of its document; what that leaves is free of stray whitespace."""
        text = before = example.parts.get("text")
        if not isinstance(text, str):
            return example
        if self.boilerplate:
            text, kinds = without_boilerplate(text)
            if kinds:
                made["boilerplate"] = ", ".join(kinds)
        if self.repeats:
            shorter = without_repeats(text, self.repeats)
            if shorter != text:
                made.setdefault("repeated lines", "")
                text = shorter
        if text == before:
            return example
        if self.whitespace:
            text = _without_stray_space(text, self.blank_lines)
        return replace(example, parts={**example.parts, "text": text})

    def _chosen(self, markup: bool) -> Iterator[tuple[str, Callable[[str], str]]]:
        if self.mojibake:
            yield "mojibake", _without_mojibake
        if markup:
            yield "HTML", without_markup
        if self.control:
            yield "control characters", _without_control
        if self.zero_width:
            yield "zero-width characters", _without_zero_width
        form = self.unicode
        if form != "off":
            yield form, lambda text: text if text.isascii() else unicodedata.normalize(form, text)
        if self.whitespace:
            yield "whitespace", lambda text: _without_stray_space(text, self.blank_lines)


def _changed(example: Example, changes: _Changes, made: dict[str, str]) -> Example:
    parts: dict[str, Part] = {}
    for name, part in example.parts.items():
        if name == "tools":  # JSON text, which cleaning could break
            parts[name] = part
        elif name == "tokens" and isinstance(part, str):
            parts[name] = _cleaned_tokens(part, changes, made)
        elif isinstance(part, str):
            parts[name] = _cleaned(part, changes, made)
        else:
            parts[name] = tuple(replace(turn, content=_cleaned(turn.content, changes, made)) for turn in part)
    target = _cleaned_target(example, changes, made)
    if parts == example.parts and target == example.target:
        return example
    return replace(example, parts=parts, target=target)


def _cleaned(text: str, changes: _Changes, made: dict[str, str]) -> str:
    """The text cleaned until nothing changes (an entity may hide a tag); the kinds of change are added to `made`."""
    # Most rows are one line of such characters: no change has anything to do there.
    if text.isascii() and text.isprintable() and not text.endswith(" ") and "<" not in text and "&" not in text:
        return text
    while True:  # every change but normalization shortens the text, and normalization has an end
        before = text
        for kind, change in changes:
            changed = change(text)
            if changed != text:
                made.setdefault(kind, "")
                text = changed
        if text == before:
            break
    return text


def _cleaned_tokens(text: str, changes: _Changes, made: dict[str, str]) -> str:
    """Words that have tags, each cleaned by itself: as many as before, and one of nothing but damage stays."""
    words = []
    for word in text.split(" "):
        own: dict[str, str] = {}
        cleaned = "\u00a0".join(_cleaned(word, changes, own).split())
        if cleaned and cleaned != word:
            made.update(own)
        words.append(cleaned or word)
    return " ".join(words)


def _cleaned_target(example: Example, changes: _Changes, made: dict[str, str]) -> Target:
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


# ---- encoding --------------------------------------------------------------------------------------------------------


@cache
def _encoding_rules() -> Any:
    """Damage alone: what ftfy does beside it (quotes, ligatures, entities, ends of lines) has switches of its own."""
    import ftfy

    return ftfy.TextFixerConfig(
        unescape_html=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        remove_terminal_escapes=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )


_LOST_QUOTE = re.compile("â€(?=[\\x00-\\x7f]|$)")


def _without_mojibake(text: str) -> str:
    if text.isascii():
        return text
    # Line by line: texts are often put together from damaged pieces and sound ones.
    return "\n".join(line if line.isascii() else _repaired(line) for line in text.split("\n"))


def _repaired(line: str) -> str:
    import ftfy

    if "â€œ" in line:
        # Windows-1252 has no sign for a closing mark's last byte: it is often lost, and ftfy then reads the space after
        # the mark as part of it.
        line = _LOST_QUOTE.sub("”", line)
    return str(ftfy.fix_encoding(line, _encoding_rules()))


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
    if "\t" in text and is_table(text):
        text = re.sub(r"(?<! ) +$", "", text, flags=re.MULTILINE).rstrip(" \n")
    else:
        text = text.rstrip()
        if " \n" in text or "\t\n" in text:
            text = _LINE_SPACE.sub("", text)
    text = text.lstrip("\n")  # blank lines, not the first line's indentation
    if "\n" * (blank_lines + 2) in text:
        text = re.sub(rf"\n{{{blank_lines + 2},}}", "\n" * (blank_lines + 1), text)
    return text
