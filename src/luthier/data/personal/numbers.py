"""Rules for cards, accounts, identity papers and the national numbers of several countries.

A certainty of 0.7 and more stands by itself; less wants a word beside the number, since one number in ten passes a
check of one digit by chance. Sources: see checksums.py; issuer ranges of cards: the networks' published ranges.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from . import checksums
from .spans import Rule, Span, compact

__all__ = ["NUMBERS", "beside_words", "card_certainty", "find_ibans"]

_BEGIN, _END = r"(?<![\w.+-])", r"(?![\w-]|\.\d)"


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE)


def _rule(kind: str, digits: int, pattern: str, check: Callable[[str, str], float], words: str) -> Rule:
    return Rule(kind, digits, re.compile(f"{_BEGIN}{pattern}{_END}"), check, _words(words))


def _sure(valid: Callable[[str], bool], certainty: float, bare: float | None = None) -> Callable[[str, str], float]:
    """The certainty of what is valid; `bare`: of what is valid and written without any mark between its digits."""

    def check(number: str, written: str) -> float:
        if not valid(number):
            return 0.0
        return certainty if bare is None or not written.isalnum() else bare

    return check


# ---- cards and accounts ----------------------------------------------------------------------------------------------

_NETWORKS = re.compile(
    r"(?P<sixteen>4\d{12}(?:\d{3}){0,2}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"
    r"|3[47]\d{13}|3(?:0[0-59]|[689]\d)\d{11}(?:\d{2})?|(?:6011|64[4-9]\d|65\d\d|62\d\d)\d{12,15}"
    r"|35(?:2[89]|[3-8]\d)\d{12}|(?:1800|2131)\d{11}|220[0-4]\d{12}|(?:60|81|82)\d{14}|508\d{13})"
    r"|(?P<maestro>(?:50|5[6-9]|6\d)\d{10,17})"
)


def card_certainty(digits: str, written: str) -> float:
    """By network, length and Luhn's check; what only looks like a card needs a word beside it."""
    network = _NETWORKS.fullmatch(digits)
    if len(set(digits)) == 1:
        return 0.0
    if checksums.luhn(digits):
        if network and network["sixteen"]:
            return 0.9 if len(digits) > 13 else 0.45
        return 0.45 if network else 0.2
    # A card that was written down wrong is still a person's.
    return 0.1 if network and len(digits) > 13 else 0.0


_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}")


def find_ibans(text: str) -> Iterator[Span]:
    """IBANs, as long as their country has them; with a wrong check only where the word stands before them."""
    for match in _IBAN.finditer(text):
        length = checksums.IBAN_LENGTHS.get(match[0][:2].upper(), 0)
        places = [place for place, sign in enumerate(match[0]) if sign.isalnum()][:length]
        if not length or len(places) < length:
            continue
        end = match.start() + places[-1] + 1
        if text[end : end + 1].isalnum():
            continue
        if checksums.iban(compact(text[match.start() : end])):
            yield Span(match.start(), end, "iban", 0.95)
        elif "iban" in text[max(0, match.start() - 30) : match.start()].lower():
            yield Span(match.start(), end, "iban", 0.6)


# ---- what is told by its word alone ----------------------------------------------------------------------------------

_FILLERS = (
    r"(?:[^\w\n.!?]{1,3}(?:number|numbers|num|no|nr|id|code|is|was|are|of|mine|my|her|his|to|the|expires?)\b\.?){0,4}"
)
_BESIDE = re.compile(
    r"(?<!\w)(?:(?P<passport>passport|reisepass(?:nummer)?|passeport|pasaporte|passaporto)"
    r"|(?P<drivers_license>driver'?s?[ -]licen[cs]e|driving licen[cs]e|f[üu]hrerschein(?:nummer)?|permis de conduire"
    r"|patente di guida|permiso de conducir)"
    r"|(?P<bank_account>(?:bank |checking |savings )?(?:account|acct|a/c)(?=[ .:#]*(?:number|num|no\b|nr\b|#|:))"
    r"|bank account|(?:checking|savings) account|kontonummer|kto[.-]?nr|sort code))"
    rf"{_FILLERS}[^\w\n]{{1,4}}(?P<number>[A-Za-z]{{0,3}}[ -]?\d[\dA-Za-z]*(?:[ -]\d[\dA-Za-z]*){{0,5}}){_END}",
    re.IGNORECASE,
)
_STEMS: tuple[str, ...] = (
    "passport",
    "reisepass",
    "passeport",
    "pasaporte",
    "passaporto",
    "licen",
    "hrerschein",
    "permis",
    "patente",
)
_STEMS += ("account", "acct", "a/c", "konto", "kto", "sort code")
_LENGTHS = {"passport": (6, 10), "drivers_license": (5, 19), "bank_account": (6, 18)}


def beside_words(text: str) -> Iterator[Span]:
    """Passports, driver's licenses and bank accounts, which have no check: only right behind their word."""
    low = text.lower()
    if not any(stem in low for stem in _STEMS):
        return
    for match in _BESIDE.finditer(text):
        kind = next(name for name in _LENGTHS if match[name])
        fewest, most = _LENGTHS[kind]
        if fewest <= len(compact(match["number"])) <= most and sum(map(str.isdigit, match["number"])) >= 4:
            start = match.start("number")
            while not text[start].isalnum():
                start += 1
            yield Span(start, match.end("number"), kind, 0.8)


# ---- national numbers ------------------------------------------------------------------------------------------------


def _ssn(number: str, written: str) -> float:
    if not checksums.ssn(number) or len(set(number)) == 1:
        return 0.0
    return {"-": 0.75, " ": 0.4}.get(written[3], 0.1)


def _itin(number: str, written: str) -> float:
    group = int(number[3:5])
    used = 50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99
    return (0.7 if written[3] == "-" else 0.1) if used else 0.0


def _date_number(number: str, written: str) -> bool:
    """Six digits of a date of birth, year first, at the beginning; Luhn over the last ten (Sweden)."""
    digits = number[-10:]
    return checksums.day_and_month(str(int(digits[4:6]) % 60), digits[2:4]) and checksums.luhn(digits)


NUMBERS: tuple[Rule, ...] = (
    _rule(
        "credit_card",
        12,
        r"\d(?:[ -]?\d){11,18}",
        card_certainty,
        r"(?:credit|debit|bank)?[ -]?cards?|cc|visa|mastercard|amex|maestro|kreditkarte|carte|tarjeta|carta|cvv|pan",
    ),
    _rule("us_ssn", 9, r"\d{3}([- .]?)\d{2}\1\d{4}", _ssn, r"ssn|ssns|ss[#n]|social(?: security)?(?: no| number)?"),
    _rule("us_itin", 9, r"9\d{2}([- ]?)\d{2}\1\d{4}", _itin, r"itin|taxpayer|tin"),
    _rule("us_routing", 9, r"\d{9}", _sure(checksums.aba, 0.1), r"routing|aba|rtn|transit"),
    _rule("ca_sin", 9, r"\d{3}([ -]?)\d{3}\1\d{3}", _sure(checksums.luhn, 0.2, 0.1), r"sin|social insurance|nas"),
    _rule(
        "uk_nino",
        6,
        r"[A-Za-z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-Da-d]",
        _sure(checksums.nino, 0.75),
        r"national insurance|nino|ni(?: number| no)",
    ),
    _rule(
        "uk_nhs", 10, r"\d{3}([ -]?)\d{3}\1\d{4}", _sure(checksums.nhs, 0.3, 0.1), r"nhs|national health(?: service)?"
    ),
    _rule(
        "de_tax_id",
        11,
        r"[1-9]\d(?:[ ]?\d{3}){3}",
        _sure(checksums.de_tax_id, 0.7, 0.3),
        r"steuer-?id(?:entifikationsnummer)?|steuerliche|idnr|identifikationsnummer|tax(?: id| number)?|tin",
    ),
    _rule(
        "fr_insee",
        14,
        r"[1-478] ?\d{2} ?\d{2} ?(?:\d{2}|2[ABab]) ?\d{3} ?\d{3} ?\d{2}",
        _sure(checksums.insee, 0.8),
        r"nir|insee|s[ée]curit[ée] sociale|num[ée]ro de s[ée]cu",
    ),
    _rule("es_dni", 8, r"\d{8}[ -]?[A-Za-z]", _sure(checksums.dni, 0.7), r"dni|nif|documento(?: nacional)?"),
    _rule("es_nie", 7, r"[XYZxyz][ -]?\d{7}[ -]?[A-Za-z]", _sure(checksums.dni, 0.75), r"nie|extranjer[oa]s?"),
    _rule(
        "it_codice_fiscale",
        6,
        r"[A-Za-z]{6} ?[0-9A-Za-z]{2}[A-Za-z][0-9A-Za-z]{2} ?[A-Za-z][0-9A-Za-z]{3}[A-Za-z]",
        _sure(checksums.codice_fiscale, 0.95),
        r"codice fiscale|c\.?f",
    ),
    _rule(
        "nl_bsn", 9, r"\d{9}|\d{4}[. ]\d{2}[. ]\d{3}", _sure(checksums.bsn, 0.3, 0.15), r"bsn|burgerservicenummer|sofi"
    ),
    _rule(
        "be_national_number",
        11,
        r"\d{2}\.?\d{2}\.?\d{2}[ -]?\d{3}[. ]?\d{2}",
        _sure(checksums.be_number, 0.8, 0.2),
        r"rijksregister(?:nummer)?|registre national|national number|insz|niss",
    ),
    _rule("ch_ahv", 13, r"756([. ]?)\d{4}\1\d{4}\1\d{2}", _sure(checksums.ahv, 0.9, 0.7), r"ahv|avs|oasi|ahv-nummer"),
    _rule("pl_pesel", 11, r"\d{11}", _sure(checksums.pesel, 0.3), r"pesel"),
    _rule("fi_hetu", 9, r"\d{6}[-+A-FU-Ya-fu-y]\d{3}[0-9A-Ya-y]", _sure(checksums.hetu, 0.9), r"hetu|henkil[öo]tunnus"),
    Rule(
        "se_personnummer",
        10,
        re.compile(rf"{_BEGIN}(?:19|20)?\d{{6}}[-+]?\d{{4}}{_END}"),
        lambda number, written: (0.3 if written.isalnum() else 0.7) if _date_number(number, written) else 0.0,
        _words(r"personnummer|personal identity"),
    ),
    Rule(
        "dk_cpr",
        10,
        re.compile(rf"{_BEGIN}\d{{6}}-?\d{{4}}{_END}"),
        lambda number, written: 0.15 if checksums.day_and_month(number[:2], number[2:4]) else 0.0,
        _words(r"cpr|cpr-?nummer|cpr-?nr"),
    ),
    _rule("br_cpf", 11, r"\d{3}\.?\d{3}\.?\d{3}-?\d{2}", _sure(checksums.cpf, 0.9, 0.2), r"cpf"),
    _rule(
        "in_aadhaar", 12, r"\d{4}([ -]?)\d{4}\1\d{4}", _sure(checksums.aadhaar, 0.6, 0.2), r"aadhaar|aadhar|uidai|uid"
    ),
    _rule("au_tfn", 9, r"\d{3}([ -]?)\d{3}\1\d{3}", _sure(checksums.tfn, 0.2, 0.1), r"tfn|tax file"),
    _rule("sg_nric", 7, r"[STFGstfg]\d{7}[A-Za-z]", _sure(checksums.nric, 0.8), r"nric|fin"),
    _rule("cn_resident_id", 17, r"[1-9]\d{16}[\dXx]", _sure(checksums.resident_id, 0.9), r"身份证|resident identity"),
)
