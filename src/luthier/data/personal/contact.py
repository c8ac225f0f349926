"""E-mail addresses, web addresses, IP and MAC addresses, telephone numbers, dates of birth.

Telephone numbers: our own candidates, judged by the words beside them and by their form, and by Google's numbering
plans (the library phonenumbers) where neither decides. Addresses that are reserved for documentation are left: RFC
2606 (names), RFC 5737 and 3849 (IP), RFC 9542 (MAC), 555-0100 to 555-0199 (North American numbering plan).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from .spans import Span

__all__ = ["find_birth_dates", "find_emails", "find_ips", "find_macs", "find_phones", "find_urls"]

# ---- names of the net ------------------------------------------------------------------------------------------------

_LATIN = r"0-9A-Za-z_\u00c0-\u024f"
_OTHER = r"[^\W\x00-\x7f]"
"""Letters of other scripts: an address of one script ends where the sentence's own begins."""
_EMAIL = re.compile(
    rf"(?:(?<![{_LATIN}.+%'=~-])[{_LATIN}][{_LATIN}.+%'=~-]{{0,63}}|(?<!\w){_OTHER}{{1,64}})"
    rf"@(?:(?:[{_LATIN}][{_LATIN}-]{{0,62}}|{_OTHER}{{1,63}})\.){{1,8}}(?:[A-Za-z]{{2,24}}|{_OTHER}{{2,10}})(?![{_LATIN}@])"
)
_URL = re.compile(
    r"(?:\b(?:https?|ftp)://|\bwww\.)[^\s<>\"'`{}\\|^\[\]\u3000-\u3003\uff01-\uff1f\u201c\u201d]+", re.IGNORECASE
)
_ENDINGS = (
    r"(?:com|org|net|edu|gov|info|biz|io|me|co|eu|de|uk|fr|nl|ch|at|it|es|pl|se|no|dk|fi|br|in|jp|cn|ru|us|ca|au)"
)
_SITE = re.compile(rf"\.{_ENDINGS}(?!\w)", re.IGNORECASE)
_BARE = re.compile(
    rf"(?<![\w@.:/-])(?:[a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])?\.){{1,4}}{_ENDINGS}"
    r"(?P<path>/[^\s<>\"'`{}\\|^\[\]\u3000-\u3003\uff01-\uff1f\u201c\u201d]*)?(?![\w@-]|\.\w)",
    re.IGNORECASE,
)
_RESERVED = re.compile(
    r"(?:^|[@/.])(?:example\.(?:com|org|net)|[\w-]+\.(?:test|example|invalid|localhost))(?=[/:?#]|$)", re.I
)
_CLOSING = re.compile(r"[.,;:!?*'\"]+$")


def find_emails(text: str) -> Iterator[Span]:
    """E-mail addresses (the usual part of RFC 5322), but for those of reserved names."""
    for match in _EMAIL.finditer(text):
        if not _RESERVED.search(match[0]):
            yield Span(match.start(), match.end(), "email", 0.95)


def find_urls(text: str) -> Iterator[Span]:
    """Web addresses; a bare name of a site (shop.com) is doubtful, with a path behind it less so."""
    for match in _URL.finditer(text) if "://" in text or "www." in text.lower() else ():
        found = _without_tail(match[0])
        if "." in found and not _RESERVED.search(found):
            yield Span(match.start(), match.start() + len(found), "url", 0.9)
    for match in _BARE.finditer(text) if _SITE.search(text) else ():
        found = _without_tail(match[0])
        if not _RESERVED.search(found):
            path = match["path"] is not None and len(match["path"]) > 1
            yield Span(match.start(), match.start() + len(found), "url", 0.6 if path else 0.4)


def _without_tail(found: str) -> str:
    """The address without the sentence's own signs behind it, and without a bracket that was opened before it."""
    while True:
        shorter = _CLOSING.sub("", found)
        if shorter.endswith(")") and shorter.count(")") > shorter.count("("):
            shorter = shorter[:-1]
        if shorter == found:
            return found
        found = shorter


# ---- addresses of machines -------------------------------------------------------------------------------------------

_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_V4 = re.compile(rf"(?<![\w.-])(?:{_OCTET}\.){{3}}{_OCTET}(?!\w|\.\d|-\d)")
_V6 = re.compile(
    r"(?<![\w:.])[0-9a-f]{0,4}:[0-9a-f:]{0,36}(?:[0-9a-f]|::)(?:(?:\.\d{1,3}){3})?(?!\w|:\w|\.\d)", re.IGNORECASE
)
_MAC = re.compile(
    r"(?<![\w:-])(?:[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4})(?![\w:-]|\.\w)",
    re.IGNORECASE,
)
_TWO_DOTS, _TWO_COLONS = re.compile(r"\.\d{1,3}\.\d"), re.compile(r":[0-9A-Fa-f]{0,4}:")
_HEX_PAIR = re.compile(r"[:-][0-9A-Fa-f]{2}[:-]|\.[0-9A-Fa-f]{4}\.")
"""What any such address has in it; looked for first, since most text has none."""
_MACHINE = re.compile(r"(?<!\w)(?:ip|ips|address|host|server|client|from|dns|ping)(?!\w)", re.IGNORECASE)
_NOT_AN_ADDRESS = re.compile(r"(?:version|release|section|chapter|clause|v|§|upgraded?|firmware)\.? ?$", re.IGNORECASE)


def find_ips(text: str) -> Iterator[Span]:
    """IP addresses of version 4 and 6; those of no machine in particular are left, private ones are doubtful."""
    for match in _V4.finditer(text) if _TWO_DOTS.search(text) else ():
        address = ipaddress.IPv4Address(match[0])
        if _nobodys(address) or match[0].startswith(("0.", "255.")):
            continue
        before = text[max(0, match.start() - 24) : match.start()]
        small = max(address.packed) < 32 and not _MACHINE.search(before)  # numbered like a section or a release
        doubtful = small or address.is_private or text.startswith("/", match.end())
        doubtful = doubtful or bool(_NOT_AN_ADDRESS.search(before))
        yield Span(match.start(), match.end(), "ip", 0.45 if doubtful else 0.8)
    for match in _V6.finditer(text) if _TWO_COLONS.search(text) else ():
        try:
            six = ipaddress.IPv6Address(match[0])
        except ValueError:
            continue
        if not _nobodys(six) and any(map(str.isdigit, match[0])):
            yield Span(match.start(), match.end(), "ip", 0.8)


_DOCUMENTATION = tuple(
    ipaddress.ip_network(block)
    for block in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", "2001:db8::/32")
)


def _nobodys(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return True
    return any(address.version == block.version and address in block for block in _DOCUMENTATION)


def find_macs(text: str) -> Iterator[Span]:
    """Addresses of network cards, but for broadcast, nothing and those of documentation."""
    for match in _MAC.finditer(text) if _HEX_PAIR.search(text) else ():
        digits = re.sub(r"[:.-]", "", match[0]).lower()
        if digits not in ("0" * 12, "f" * 12) and not digits.startswith("00005e0053"):
            yield Span(match.start(), match.end(), "mac", 0.8 if match[1] else 0.5)


# ---- telephone -------------------------------------------------------------------------------------------------------

_PHONE = re.compile(
    r"(?<![\w+$€£.=/<*])(?<!\d[-,])(?<![=*] )(?P<plus>\+|00(?=[1-9]))?(?:\(\+?\d[\d -]{0,5}\)[ .-]?)?\d"
    r"(?:(?:[ .-]{1,2}|[ -]?\(|\)[ .-]?|/)?\d){4,15}(?P<extension> ?(?:x|ext\.?) ?\d{1,6})?"
    r"(?![\w%€$£]|[.,]\d|-\d| ?[=*<>])"
)
_CALL = re.compile(
    r"(?<!\w)(?:(?:tele)?phones?|tel|cell(?:phone|ular)?|mobiles?|fax|call(?:ed|ing|s)?|dial(?:ed|ing)?|text(?:ed)?|sms"
    r"|whatsapp|contact|reach|ring|rufnummer|telefon|t[ée]l[ée]fono?|handy|desk|office|hotline|landline|pager"
    r"|answering at|messages? (?:on|to|at)|helpline|support line)(?!\w)",
    re.IGNORECASE,
)
_CALL_AFTER = re.compile(r"[ (-]{1,2}(?:office|fax|mobile|cell|home|work|tel|phone|direct|landline)\b", re.IGNORECASE)
_DATE = re.compile(
    r"(?:\d{4}([-./])\d{1,2}\1\d{1,2}|\d{1,2}([-./])\d{1,2}\2(?:\d\d|\d{4}))(?: \d{1,2})?"
    r"|(?:1\d|20)\d\d ?- ?(?:1\d|20)\d\d"
)
_NORTH_AMERICA = re.compile(
    r"(?:\+?1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d([ .-]))[2-9]\d\d[ .-]?\d{4}(?: ?(?:x|ext\.?) ?\d+)?"
)
_OTHER_FORM = re.compile(r"\d{3}-\d\d-\d{4}|\d{1,3}(?:\.\d{1,3}){3}")
"""Social security numbers and IP addresses."""
_FICTION = re.compile(r"(?:1?\d{3})?55501\d\d|(?:44|0)7700900\d{3}|(?:44|0)1632960\d{3}|(?:44|0)2079460\d{3}")


def find_phones(text: str, regions: tuple[str, ...], start: int, end: int) -> Iterator[Span]:
    """Telephone numbers that lie between two places of the text.

    regions: those whose numbering plans are tried for a number without country and without a word beside it.
    """
    for match in _PHONE.finditer(text, start, end):
        written = match[0]
        digits = "".join(filter(str.isdigit, written[: len(written) - len(match["extension"] or "")]))
        if 7 <= len(digits) <= 15 and not _FICTION.fullmatch(digits):
            certainty = _phone_certainty(text, match, digits, regions)
            if certainty:
                yield Span(match.start(), match.end(), "phone", certainty)


def _phone_certainty(text: str, match: re.Match[str], digits: str, regions: tuple[str, ...]) -> float:
    written, start = match[0], match.start()
    book = len(digits) == 13 and digits[:3] in ("978", "979")
    if len(set(digits)) == 1 or book or (written.isdecimal() and digits.endswith("00000")):
        return 0.0
    if match["plus"] and len(written) == len(digits) + 1:  # a sum is written so as well
        return 0.85 if _is_possible(written) else 0.0
    if match["plus"] and (written[0] == "+" or (len(digits) > 9 and not written.isdecimal())):
        return 0.85
    # Two dates and a decimal number are written with the same signs.
    if _DATE.fullmatch(written) and not _CALL_AFTER.match(text, match.end()):
        near = _CALL.search(text[max(0, start - 16) : start])
        return 0.6 if near and len(re.split(r"\D", written)) > 3 else 0.0
    groups = _groups(written)
    if max(groups) < 3 and len(groups) > 5:
        return 0.0
    formatted = len(digits) != len(written)
    if formatted and written.count(".") == 1 and not re.search(r"[ ()-]", written):
        return 0.0
    if _CALL_AFTER.match(text, match.end()) or _CALL.search(text[max(0, start - 28) : start]):
        return 0.75 if formatted or len(digits) > 8 else 0.6
    if _NORTH_AMERICA.fullmatch(written):
        return 0.65
    if not formatted:
        return 0.3 if len(digits) in (10, 11) else 0.0
    if len(digits) < 9 or _OTHER_FORM.fullmatch(written):
        return 0.0
    return 0.55 if _is_in_a_plan(written, regions) else 0.2


def _is_possible(written: str) -> bool:
    """Whether some country has numbers of this length; written with a plus sign and its calling code."""
    import phonenumbers

    try:
        return bool(phonenumbers.is_possible_number(phonenumbers.parse(written)))
    except phonenumbers.NumberParseException:
        return False


def _is_in_a_plan(written: str, regions: tuple[str, ...]) -> bool:
    import phonenumbers

    for region in regions:
        try:
            number = phonenumbers.parse(written, region)
        except phonenumbers.NumberParseException:
            continue
        # Written as the region groups its numbers: a table's digits are grouped too, but seldom like that.
        if phonenumbers.is_valid_number(number) and _groups(written) in (
            _groups(phonenumbers.format_number(number, form))
            for form in (phonenumbers.PhoneNumberFormat.NATIONAL, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
        ):
            return True
    return False


def _groups(written: str) -> list[int]:
    return [len(group) for group in re.findall(r"\d+", written)]


# ---- dates of birth --------------------------------------------------------------------------------------------------

_YEAR = "january february march april may june july august september october november december"
MONTHS = _YEAR.split()
_MONTH = "|".join(f"{month}|{month[:3]}" + ("|sept" if month == "september" else "") for month in MONTHS)
_BIRTH = re.compile(
    r"(?<!\w)(?:born|birth|birthdate|birthday|dob|d\.o\.b\.?|geboren|geb\.|geburtsdatum|n[ée]e? le|nacimiento|nacid[oa]"
    r"|nat[oa] il|nascita)(?!\w)",
    re.IGNORECASE,
)
_BIRTH_STEMS = (
    "born",
    "birth",
    "dob",
    "d.o.b",
    "geb",
    "né",
    "nacid",
    "nacim",
    "nato il",
    "nata il",
    "nascita",
    "nee le",
    "ne le",
)
_BEFORE_BIRTH = re.compile(_BIRTH.pattern + r"[^\d\n]{0,40}\n{0,2}[^\d\n]{0,8}\Z", re.IGNORECASE)
_AFTER_BIRTH = re.compile(r"\W{0,3}(?:is|was)\b.{0,8}birth|\W{0,2}\(?(?:dob|birth)", re.IGNORECASE)
_DAY = re.compile(
    r"(?<![\w./-])(?:(?P<iso>(?:19|20)\d\d[-/.]\d{1,2}[-/.]\d{1,2})"
    r"|(?P<numeric>\d{1,2}(?P<sign>[-/.]|\. ?)\d{1,2}(?P=sign)(?:(?:19|20)\d\d|\d\d))"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.)?(?: of)? (?:{_MONTH})\.?,? (?:19|20)\d\d"
    rf"|(?:{_MONTH})\.? \d{{1,2}}(?:st|nd|rd|th)?,? (?:19|20)\d\d)(?![\w-]|[./]\d)",
    re.IGNORECASE,
)


def find_birth_dates(text: str) -> Iterator[Span]:
    """Dates from 1900 with a word of birth before them and no other number between, or right behind them."""
    low = text.lower()
    if not any(stem in low for stem in _BIRTH_STEMS):
        return
    for match in _DAY.finditer(text):
        if _BEFORE_BIRTH.search(text, max(0, match.start() - 60), match.start()) or _AFTER_BIRTH.match(
            text, match.end()
        ):
            yield Span(match.start(), match.end(), "birth_date", 0.8)
