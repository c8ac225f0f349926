"""Check digits of cards, accounts and national numbers; each takes the letters and digits alone, letters as capitals.

Sources: ISO/IEC 7812-1 (Luhn), ISO 13616 (IBAN), ISO/IEC 7064 (mod 11-2, mod 11,10), Verhoeff 1969, and the public
rules of the issuing authorities, named at each function. Each gives False for what does not have the form at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = [
    "aadhaar",
    "aba",
    "ahv",
    "be_number",
    "bsn",
    "codice_fiscale",
    "cpf",
    "day_and_month",
    "de_tax_id",
    "dni",
    "hetu",
    "iban",
    "insee",
    "luhn",
    "nhs",
    "nino",
    "nric",
    "pesel",
    "resident_id",
    "ssn",
    "tfn",
    "weighted",
]

_BAD_NINO = frozenset({"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"})
_DNI = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 "
    "EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 "
    "KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 "
    "PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 "
    "UA29 VA22 VG24 XK20 YE30"
)
IBAN_LENGTHS = {item[:2]: int(item[2:]) for item in _LENGTHS.split()}
"""Characters of an IBAN by country: the SWIFT registry."""


def luhn(digits: str) -> bool:
    """Every second digit from the right doubled, their digits summed to a multiple of ten (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = ord(digit) - 48
        if not 0 <= value <= 9:
            return False
        total += value if place % 2 == 0 else (2 * value - 9 if value > 4 else 2 * value)
    return total % 10 == 0


def weighted(digits: str, weights: Sequence[int]) -> int:
    """The sum of digit times weight, as far as both go."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def iban(text: str) -> bool:
    """Length by country, and 1 modulo 97 with the first four characters moved to the end, letters as 10 to 35."""
    if IBAN_LENGTHS.get(text[:2]) != len(text) or not text[2:4].isdigit() or not text.isalnum():
        return False
    return int("".join(str(int(sign, 36)) for sign in text[4:] + text[:4])) % 97 == 1


def ssn(digits: str) -> bool:
    """United States (Social Security Administration): area not 000, 666 or from 900, group not 00, serial not 0000."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return len(digits) == 9 and area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def aba(digits: str) -> bool:
    """United States, bank routing: weights 3, 7, 1; the first two digits are those of a district or its offsets."""
    first = int(digits[:2])
    districts = first <= 12 or 21 <= first <= 32 or 61 <= first <= 72 or first == 80
    return len(digits) == 9 and districts and weighted(digits, (3, 7, 1) * 3) % 10 == 0 and set(digits) != {"0"}


def nino(text: str) -> bool:
    """United Kingdom, national insurance: letters that are in use, six digits, a suffix A to D (HMRC, NIM39110)."""
    form = re.fullmatch(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]", text)
    return form is not None and text[:2] not in _BAD_NINO


def nhs(digits: str) -> bool:
    """United Kingdom, health service: modulo 11 with weights 10 to 2."""
    rest = 11 - weighted(digits[:9], range(10, 1, -1)) % 11
    return len(digits) == 10 and rest != 10 and rest % 11 == int(digits[9])


def de_tax_id(digits: str) -> bool:
    """Germany, tax identification: one digit of the first ten comes twice or three times; ISO/IEC 7064 mod 11,10."""
    body = digits[:10]
    if len(digits) != 11 or digits[0] == "0" or len(set(body)) not in (8, 9) or max(map(body.count, body)) > 3:
        return False
    rest = 10
    for digit in body:
        rest = (int(digit) + rest) % 10 or 10
        rest = rest * 2 % 11
    return (11 - rest) % 10 == int(digits[10])


def insee(text: str) -> bool:
    """France, NIR: sex, year, month, department (2A and 2B for Corsica), order, and 97 less the rest modulo 97."""
    if not re.fullmatch(r"[1-478]\d{2}(?:0[1-9]|1[0-2]|[2-4]\d|[5-9]\d)(?:\d{2}|2[AB])\d{8}", text):
        return False
    number = int(text[:13].replace("2A", "19").replace("2B", "18"))
    return 97 - number % 97 == int(text[13:])


def dni(text: str) -> bool:
    """Spain, DNI and NIE: a letter by the number modulo 23; X, Y, Z stand for 0, 1, 2."""
    if not re.fullmatch(r"[XYZ]?\d{7,8}[A-Z]", text) or len(text) != 9:
        return False
    number = text[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2")
    return _DNI[int(number) % 23] == text[-1]


_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
"""Values of A to Z in odd places; a digit has that of the letter in its place of the alphabet."""


def codice_fiscale(text: str) -> bool:
    """Italy: the tables of odd and even places, modulo 26 (decree of 23 December 1976)."""
    if not re.fullmatch(r"[A-Z]{6}[\dL-NP-V]{2}[A-EHLMPR-T][\dL-NP-V]{2}[A-Z][\dL-NP-V]{3}[A-Z]", text):
        return False
    total = sum(_ODD[_place(sign)] if place % 2 == 0 else _place(sign) for place, sign in enumerate(text[:15]))
    return chr(65 + total % 26) == text[15]


def _place(sign: str) -> int:
    return int(sign) if sign.isdigit() else ord(sign) - 65


def bsn(digits: str) -> bool:
    """The Netherlands: the eleven test, weights 9 to 2 and -1."""
    return len(digits) == 9 and int(digits) > 0 and weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0


def pesel(digits: str) -> bool:
    """Poland: weights 1, 3, 7, 9; the month tells the century by 20s."""
    if len(digits) != 11 or not day_and_month(digits[4:6], str(int(digits[2:4]) % 20)):
        return False
    return weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0


def cpf(digits: str) -> bool:
    """Brazil: two check digits modulo 11; a number of one digit repeated is none."""
    if len(digits) != 11 or len(set(digits)) == 1:
        return False
    first = weighted(digits[:9], range(10, 1, -1)) * 10 % 11 % 10
    second = weighted(digits[:10], range(11, 1, -1)) * 10 % 11 % 10
    return digits[9:] == f"{first}{second}"


def hetu(text: str) -> bool:
    """Finland: a date of birth, three digits, and a check sign by the nine digits modulo 31."""
    form = re.fullmatch(r"(\d{6})[A-FU-Y]?(\d{3})([0-9A-Y])", text)
    if form is None or not day_and_month(text[:2], text[2:4]):
        return False
    return _HETU[int(form[1] + form[2]) % 31] == form[3]


def be_number(digits: str) -> bool:
    """Belgium: 97 less the first nine digits modulo 97, with a 2 before them from the year 2000."""
    if len(digits) != 11:
        return False
    check = int(digits[9:])
    return any(97 - int(century + digits[:9]) % 97 == check for century in ("", "2"))


def ahv(digits: str) -> bool:
    """Switzerland: thirteen digits that begin with 756; weights 1 and 3 as in EAN-13."""
    return len(digits) == 13 and digits.startswith("756") and weighted(digits, (1, 3) * 7) % 10 == 0


def tfn(digits: str) -> bool:
    """Australia, tax file number: weights 1, 4, 3, 7, 5, 8, 6, 9, 10 modulo 11."""
    return len(digits) == 9 and weighted(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0


def nric(text: str) -> bool:
    """Singapore, NRIC and FIN: weights 2, 7, 6, 5, 4, 3, 2, four more for T and G; a letter by modulo 11."""
    if not re.fullmatch(r"[STFG]\d{7}[A-Z]", text):
        return False
    rest = (weighted(text[1:8], (2, 7, 6, 5, 4, 3, 2)) + (4 if text[0] in "TG" else 0)) % 11
    return ("JZIHGFEDCBA" if text[0] in "ST" else "XWUTRQPNMLK")[rest] == text[8]


def resident_id(text: str) -> bool:
    """China: eighteen places, a date of birth, ISO/IEC 7064 mod 11-2."""
    if not re.fullmatch(r"[1-9]\d{16}[\dX]", text) or not day_and_month(text[12:14], text[10:12]):
        return False
    return "10X98765432"[sum(int(digit) * pow(2, 17 - at, 11) for at, digit in enumerate(text[:17])) % 11] == text[17]


def _dihedral(left: int, right: int) -> int:
    """The product in the group of a pentagon's ten symmetries: 0 to 4 turn, 5 to 9 turn and flip."""
    turned = left % 5 - right % 5 if left > 4 else left % 5 + right % 5
    return turned % 5 + 5 * ((left > 4) != (right > 4))


def aadhaar(digits: str) -> bool:
    """India: twelve digits, none below 2 at the start, by Verhoeff's check in the dihedral group of ten."""
    if len(digits) != 12 or digits[0] < "2":
        return False
    once = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
    rest = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit)
        for _ in range(place % 8):
            value = once[value]
        rest = _dihedral(rest, value)
    return rest == 0


def day_and_month(day: str, month: str) -> bool:
    """Whether two numbers can be a day and a month."""
    return 1 <= int(month) <= 12 and 1 <= int(day) <= 31
