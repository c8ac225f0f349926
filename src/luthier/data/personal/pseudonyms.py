"""What takes the place of personal data: a value of the same kind and form that is nobody's, the same under one key.

A pseudonym is drawn from HMAC-SHA-512 (RFC 2104) of the key, the kind and the value without its signs, so that one
value written in two ways, in two rows or two files has one pseudonym, with no table to keep. Where a range is
reserved for documentation or fiction, pseudonyms lie in it; numbers of people and accounts get a check digit that is
wrong or a bank that does not exist. Words keep their number and white space theirs, so that what is aligned with
words stays so.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

from . import checksums
from .contact import MONTHS
from .key import Key
from .names import named
from .plain import plain_of
from .spans import compact, is_sign

__all__ = ["Draw", "Pseudonyms"]

_ATTEMPTS = 64
"""Draws until one differs from the value and does not hold it."""


class Draw:
    """Numbers from a digest, one after another; as many as a long account number wants."""

    def __init__(self, digest: bytes) -> None:
        self._left = int.from_bytes(digest, "big")

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1."""
        self._left, drawn = divmod(self._left, limit)
        return drawn

    def digits(self, length: int) -> str:
        """So many digits."""
        return "".join(str(self.below(10)) for _ in range(length))

    def letters(self, length: int) -> str:
        """So many small letters and digits, the first a letter, without those that are easily taken for others."""
        alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
        return "".join(alphabet[self.below(23 if place == 0 else len(alphabet))] for place in range(length))


@dataclass(frozen=True)
class Pseudonyms:
    """Pseudonyms under one key."""

    key: Key

    def of(self, kind: str, written: str) -> str:
        """The pseudonym of a value as it is written."""
        if kind == "person" and any(map(str.isalpha, written)):
            return named(written, lambda word: self._draw("name", word.casefold(), 0))
        own, written = written, plain_of(written)
        value = _canonical(kind, written)
        make = _MAKERS.get(kind, _any_number)
        for attempt in range(_ATTEMPTS):
            made = make(written, self._draw(kind, value, attempt))
            if compact(made) != compact(written) and written.casefold() not in made.casefold():
                return _spaced(made, own)
        # A tagger may take a mark or a letter for a place, or a number for a person: no name can stand for those.
        draw = self._draw(kind, value, _ATTEMPTS)
        return _spaced(re.sub(r"\S+", lambda _: draw.letters(8), written), own)

    def _draw(self, kind: str, value: str, attempt: int) -> Draw:
        message = f"{kind}\0{value}\0{attempt}".encode()
        return Draw(hmac.new(self.key.secret, message, hashlib.sha512).digest())


def _spaced(made: str, own: str) -> str:
    """With the white space that was written: a space that does not part words of tagged text must not begin to."""
    spaces = re.findall(r"\s", own)
    if len(re.findall(r"\s", made)) != len(spaces):
        return made
    left = iter(spaces)
    return re.sub(r"\s", lambda _: next(left), made)


def _canonical(kind: str, written: str) -> str:
    if kind == "phone":
        return _national(written)
    if kind == "birth_date":
        date = _Date.read(written)
        return f"{date.year}-{date.month}-{date.day}"
    if kind in ("email", "url", "organization", "place", "address"):
        return " ".join(written.casefold().split())
    return compact(written)


def _national(written: str) -> str:
    """The digits that two ways of writing one number share: without country, trunk zero and extension, at most nine."""
    digits = "".join(filter(str.isdigit, re.split(r"x|ext", written.lower())[0].replace("(0)", "")))
    return digits[-9:]


# ---- addresses -------------------------------------------------------------------------------------------------------


def _email(written: str, draw: Draw) -> str:
    return f"{draw.letters(8)}@example.{('com', 'org', 'net')[draw.below(3)]}"


def _url(written: str, draw: Draw) -> str:
    form = re.match(r"(?P<scheme>\w+://)?(?P<www>www\.)?[^/?#]*(?P<path>/[^?#]+)?", written, re.IGNORECASE)
    assert form is not None
    site = f"{form['scheme'] or ''}{form['www'] or ''}{draw.letters(8)}.example.com"
    return f"{site}/{draw.letters(6)}" if form["path"] else site + ("/" if written.endswith("/") else "")


_FREE = (("192.0.2", 1), ("198.51.100", 1), ("203.0.113", 1), ("198.18", 256), ("198.19", 256))


def _ip(written: str, draw: Draw) -> str:
    if ":" in written:
        return "2001:db8:" + ":".join(f"{draw.below(65536):x}" for _ in range(6))
    place = draw.below(sum(size for _, size in _FREE))
    for block, size in _FREE:
        if place < size:
            return f"{block}.{1 + draw.below(254)}" if size == 1 else f"{block}.{place}.{1 + draw.below(254)}"
        place -= size
    raise AssertionError("a place is drawn below the sum of the sizes")


def _mac(written: str, draw: Draw) -> str:
    # Documentation has 256 addresses only; those that are administered locally (second bit) belong to no maker.
    digits = "02" + "".join(f"{draw.below(256):02x}" for _ in range(5))
    return _poured(written, digits.upper() if written.upper() == written else digits)


# ---- numbers ---------------------------------------------------------------------------------------------------------


def _poured(written: str, signs: str) -> str:
    """The signs in the places of the letters and digits of what was written; the marks between them stay."""
    left = iter(signs)
    return "".join(next(left) if is_sign(sign) else sign for sign in written)


def _alike(written: str, draw: Draw) -> str:
    """A drawn digit for a digit, a letter for a letter, capitals as they were; the first digit is not zero."""
    made = []
    for place, sign in enumerate(compact(written)):
        drawn = str(draw.below(10) if place else 1 + draw.below(9)) if sign.isdigit() else chr(65 + draw.below(26))
        made.append(drawn)
    return _poured(written, _cased(made, written))


def _cased(made: list[str], written: str) -> str:
    own = [sign for sign in written if is_sign(sign)]
    return "".join(new.lower() if old.islower() else new for new, old in zip(made, own, strict=True))


def _any_number(written: str, draw: Draw) -> str:
    return _alike(written, draw)


def _refused_by(valid: Callable[[str], bool]) -> Callable[[str, Draw], str]:
    """A number of the same form that its authority's check refuses: it belongs to nobody."""

    def make(written: str, draw: Draw) -> str:
        made = _alike(written, draw)
        while valid(compact(made)):
            made = _alike(written, Draw(hashlib.sha512(made.encode()).digest()))
        return made

    return make


_CARDS = {"4": "400000", "5": "510510", "3": "378282", "6": "601111", "2": "222300", "1": "180000"}
"""The beginnings of numbers that payment providers publish for tests, by network."""


def _card(written: str, draw: Draw) -> str:
    digits = compact(written)
    begin = {"35": "353011", "36": "362272", "30": "305693", "38": "385200"}.get(digits[:2]) or _CARDS.get(
        digits[0], "400000"
    )
    body = begin + draw.digits(len(digits) - len(begin) - 1)
    last = next(str(digit) for digit in range(10) if checksums.luhn(f"{body}{digit}"))
    return _poured(written, body + last)


def _iban(written: str, draw: Draw) -> str:
    text = compact(written)
    body = "".join(
        ("X" if place < 4 else chr(65 + draw.below(26)))
        if sign.isalpha()
        else "0"
        if place < 4
        else str(draw.below(10))
        for place, sign in enumerate(text[4:])
    )
    rest = int("".join(str(int(sign, 36)) for sign in body + text[:2] + "00")) % 97
    return _poured(written, _cased(list(f"{text[:2]}{98 - rest:02d}{body}"), written))


def _ssn(written: str, draw: Draw) -> str:
    # From 900 no area was ever issued; groups below 50 are no taxpayer numbers either.
    return _poured(written, f"9{draw.digits(2)}{1 + draw.below(49):02d}{1 + draw.below(9999):04d}")


def _phone(written: str, draw: Draw) -> str:
    """A number of fiction behind the signs of country and trunk, in the form of what was written.

    North America: 555-01 in any area; United Kingdom: 07700 900; elsewhere 55501 leads, which no plan reserves.
    """
    extension = re.search(r"\s?(?:x|ext\.?)\s?\d+$", written, re.IGNORECASE)
    number = written[: extension.start()] if extension else written
    digits = "".join(filter(str.isdigit, number))
    country = _country(digits) if number.startswith("+") else _country(digits[2:]) if number.startswith("00") else ""
    kept = ("00" if number.startswith("00") else "") + country
    if digits[len(kept) :].startswith("0"):
        kept += "0"
    room = len(digits) - len(kept)
    if room == 10 and country in ("", "1"):
        national = f"{2 + draw.below(8)}{draw.digits(2)}55501{draw.digits(2)}"
    elif room == 10 and country == "44":
        national = f"7700900{draw.digits(3)}"
    else:
        national = f"55501{draw.digits(max(0, room - 5))}"[:room]
    made = iter(kept + national)
    filled = "".join(next(made) if sign.isdigit() else sign for sign in number)
    return filled + (re.sub(r"\d", lambda _: draw.digits(1), extension[0]) if extension else "")


def _country(digits: str) -> str:
    """The calling code that the digits begin with; none where no country has it."""
    import phonenumbers

    known = phonenumbers.COUNTRY_CODE_TO_REGION_CODE
    return next(
        (digits[:length] for length in (1, 2, 3) if digits[:length].isdigit() and int(digits[:length]) in known), ""
    )


# ---- dates -----------------------------------------------------------------------------------------------------------

_NAMED = re.compile("|".join(month[:3] for month in MONTHS), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Date:
    """A written date: its day, month and the last two digits of its year, and the order of its numbers."""

    day: int
    month: int
    year: int
    order: str

    @classmethod
    def read(cls, written: str) -> _Date:
        numbers = [int(number) for number in re.findall(r"\d+", written)]
        name = _NAMED.search(written)
        if name is not None:
            day, year = numbers
            return cls(day, 1 + [month[:3] for month in MONTHS].index(name[0].lower()), year % 100, "dy")
        if numbers[0] > 99:
            return cls(numbers[2], numbers[1], numbers[0] % 100, "ymd")
        # Slashes are read as in the United States, where the numbers do not say otherwise.
        if numbers[1] > 12 or ("/" in written and numbers[0] < 13):
            return cls(numbers[1], numbers[0], numbers[2] % 100, "mdy")
        return cls(numbers[0], numbers[1], numbers[2] % 100, "dmy")


def _birth_date(written: str, draw: Draw) -> str:
    """Another day, up to three years before or, near 1900, after; written in the same way."""
    date = _Date.read(written)
    back, month, day = draw.below(4), 1 + draw.below(12), 1 + draw.below(28)
    order = iter(date.order)
    made = []
    for piece in re.findall(r"\d+|[^\W\d_]+|.", written, re.DOTALL):
        if piece.isdigit():
            made.append(_number_like(piece, next(order), {"d": day, "m": month}, back))
        elif len(piece) > 2 and _NAMED.match(piece):
            made.append(_month_like(piece, month))
        elif piece.lower() in ("st", "nd", "rd", "th"):
            made.append("th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th"))
        else:
            made.append(piece)
    return "".join(made)


def _number_like(piece: str, what: str, drawn: dict[str, int], back: int) -> str:
    if what in drawn:
        return f"{drawn[what]:02d}" if len(piece) == 2 else str(drawn[what])
    if len(piece) == 2:
        return f"{(int(piece) - back) % 100:02d}"
    return str(int(piece) - back if int(piece) - back >= 1900 else int(piece) + back)


def _month_like(piece: str, month: int) -> str:
    name = MONTHS[month - 1] if len(piece) > 4 or piece.lower() in MONTHS else MONTHS[month - 1][:3]
    return name.upper() if piece.isupper() else name.capitalize() if piece[0].isupper() else name


# ---- names of things, from a tagger ----------------------------------------------------------------------------------

_PLACES: tuple[str, ...] = (
    "Alderford",
    "Brenmouth",
    "Carrowby",
    "Dunvale",
    "Elmsted",
    "Farholm",
    "Glenmarsh",
    "Hartwick",
    "Ivelbury",
)
_PLACES += ("Kestrelham", "Larchfield", "Millhaven", "Northwold", "Oakenshire", "Pinehurst", "Redcliffe", "Stonebeck")
_FIRMS: tuple[str, ...] = (
    "Amberline",
    "Bluefern",
    "Copperleaf",
    "Driftwell",
    "Eastbrook",
    "Fernhill",
    "Goldcrest",
    "Highmoor",
    "Ironbark",
)
_FIRMS += ("Juniper Way", "Kingsley Park", "Lakeshore", "Marlow Gate", "Northlight", "Oriel", "Plumtree", "Quayside")


def _one_of(choices: tuple[str, ...]) -> Callable[[str, Draw], str]:
    """A name for each word: as many as there were, so that tags stay in their places."""

    def make(written: str, draw: Draw) -> str:
        words = [word for choice in choices for word in choice.split()]
        return re.sub(r"\S+", lambda _: words[draw.below(len(words))], written)

    return make


def _address(written: str, draw: Draw) -> str:
    """Digits for digits, a made-up place for each word of letters."""

    def made(word: re.Match[str]) -> str:
        if any(map(str.isdigit, word[0])):
            return re.sub(r"\d", lambda _: str(1 + draw.below(9)), word[0])
        return re.sub(r"[^\W\d_]+", lambda _: _PLACES[draw.below(len(_PLACES))], word[0])

    return re.sub(r"\S+", made, written)


_MAKERS: dict[str, Callable[[str, Draw], str]] = {
    "email": _email,
    "url": _url,
    "ip": _ip,
    "mac": _mac,
    "phone": _phone,
    "birth_date": _birth_date,
    "iban": _iban,
    "credit_card": _card,
    "us_ssn": _ssn,
    "us_itin": _ssn,
    "us_routing": _refused_by(checksums.aba),
    "ca_sin": _refused_by(checksums.luhn),
    "uk_nino": _refused_by(checksums.nino),
    "uk_nhs": _refused_by(checksums.nhs),
    "de_tax_id": _refused_by(checksums.de_tax_id),
    "fr_insee": _refused_by(checksums.insee),
    "es_dni": _refused_by(checksums.dni),
    "es_nie": _refused_by(checksums.dni),
    "it_codice_fiscale": _refused_by(checksums.codice_fiscale),
    "nl_bsn": _refused_by(checksums.bsn),
    "be_national_number": _refused_by(checksums.be_number),
    "ch_ahv": _refused_by(checksums.ahv),
    "pl_pesel": _refused_by(checksums.pesel),
    "fi_hetu": _refused_by(checksums.hetu),
    "se_personnummer": _refused_by(checksums.luhn),
    "br_cpf": _refused_by(checksums.cpf),
    "in_aadhaar": _refused_by(checksums.aadhaar),
    "au_tfn": _refused_by(checksums.tfn),
    "sg_nric": _refused_by(checksums.nric),
    "cn_resident_id": _refused_by(checksums.resident_id),
    "organization": _one_of(_FIRMS),
    "place": _one_of(_PLACES),
    "address": _address,
}
