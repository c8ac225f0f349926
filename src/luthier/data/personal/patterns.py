"""The engine of patterns: all kinds that have a form, found in one text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from . import contact, numbers
from .plain import plain_of
from .spans import Span

__all__ = ["KINDS", "Patterns"]

KINDS: tuple[str, ...] = (
    *("email", "url", "ip", "mac", "phone", "birth_date", "iban", "bank_account", "passport", "drivers_license"),
    *(rule.kind for rule in numbers.NUMBERS),
)
"""The kinds that patterns find."""

_SOME = re.compile(r"\d(?:[^\d\n]{0,3}\d){3}")
_NUMBER = re.compile(r"\d(?:[ .()/A-Za-z-]{0,3}\d){5,}")
"""With fewer digits than four in one place nothing is a number of these kinds; with a check none has less than six."""
_LEFT, _RIGHT = 9, 14
"""Characters before and behind those digits that may belong to the number: letters, brackets, an extension."""


@dataclass(frozen=True)
class Patterns:
    """Finds the given kinds by their form, check digits and the words beside them (spans.Finder)."""

    kinds: frozenset[str] = frozenset(KINDS)
    regions: tuple[str, ...] = ("US", "GB", "DE", "FR", "IN")

    def find(self, text: str) -> list[Span]:
        """The spans of the text, also those of little certainty; they may overlap."""
        plain = plain_of(text)
        found: list[Span] = []
        if "@" in plain:
            found += contact.find_emails(plain)
        if "." in plain and "url" in self.kinds:
            found += contact.find_urls(plain)
        found += contact.find_ips(plain)
        found += contact.find_macs(plain)
        if _SOME.search(plain):
            found += numbers.beside_words(plain)
            found += contact.find_birth_dates(plain)
            found += self._numbers(plain)
        return [span for span in found if span.kind in self.kinds]

    def _numbers(self, plain: str) -> Iterator[Span]:
        places = list(_NUMBER.finditer(plain))
        if places and "iban" in self.kinds:
            yield from numbers.find_ibans(plain)
        for place in places:
            start, end = max(0, place.start() - _LEFT), place.end() + _RIGHT
            digits = sum(map(str.isdigit, place[0]))
            if "phone" in self.kinds:
                yield from contact.find_phones(plain, self.regions, start, end)
            for rule in numbers.NUMBERS:
                if rule.digits <= digits and rule.kind in self.kinds:
                    yield from rule.find(plain, start, end)
