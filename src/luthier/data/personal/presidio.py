"""Presidio's pattern recognizers as an engine: without its language model, in English, without a network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from ...core.errors import MissingExtra
from .spans import Span

__all__ = ["KINDS", "Presidio", "recognizers"]

KINDS = {
    "EMAIL_ADDRESS": "email",
    "URL": "url",
    "IP_ADDRESS": "ip",
    "MAC_ADDRESS": "mac",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "credit_card",
    "IBAN_CODE": "iban",
    "US_SSN": "us_ssn",
    "US_ITIN": "us_itin",
    "UK_NHS": "uk_nhs",
    "US_BANK_NUMBER": "bank_account",
    "US_PASSPORT": "passport",
    "US_DRIVER_LICENSE": "drivers_license",
}
"""Presidio's kinds by ours; it finds others, which have no pseudonyms here."""


@cache
def recognizers() -> tuple[Any, ...]:
    """Presidio's recognizers that need no language model. Errors: MissingExtra where presidio is not installed."""
    try:
        import tldextract.tldextract as suffixes
        from presidio_analyzer import RecognizerRegistry
    except ImportError as error:
        raise MissingExtra.of("presidio", "the engine presidio") from error
    # It would ask the network for the list of public suffixes; the list in its package does.
    suffixes.TLD_EXTRACTOR = suffixes.TLDExtract(suffix_list_urls=(), cache_dir=None)
    registry = RecognizerRegistry()
    registry.load_predefined_recognizers(languages=["en"])
    return tuple(recognizer for recognizer in registry.recognizers if recognizer.name != "SpacyRecognizer")


@dataclass(frozen=True)
class Presidio:
    """Presidio's findings as spans (spans.Finder); its score is the certainty."""

    kinds: frozenset[str]

    def find(self, text: str) -> list[Span]:
        """The spans of the text; they may overlap. Errors: MissingExtra where presidio is not installed."""
        found: list[Span] = []
        for recognizer in recognizers():
            wanted = [name for name in recognizer.supported_entities if KINDS.get(name) in self.kinds]
            results = recognizer.analyze(text, wanted, None) if wanted else ()
            found += [Span(one.start, one.end, KINDS[one.entity_type], one.score) for one in results or ()]
        return found
