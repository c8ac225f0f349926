"""What patterns find in sentences, and what they leave."""

from __future__ import annotations

import time

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.data.personal.patterns import KINDS, Patterns
from luthier.data.personal.spans import Span, repeated, settle

FOUND = [
    ("My card 4111 1111 1111 1111 expires", "credit_card", "4111 1111 1111 1111"),
    ("card number 4111-1111-1111-1112 (a slip)", "credit_card", "4111-1111-1111-1112"),
    ("pay to GB82 WEST 1234 5698 7654 32 is it", "iban", "GB82 WEST 1234 5698 7654 32"),
    ("iban: de89370400440532013000.", "iban", "de89370400440532013000"),
    ("SSN 219-09-9999.", "us_ssn", "219-09-9999"),
    ("my social security number is 219099999", "us_ssn", "219099999"),
    ("NI number AB 12 34 56 C", "uk_nino", "AB 12 34 56 C"),
    ("Steuer-ID: 86095742719", "de_tax_id", "86095742719"),
    ("n\u00b0 de s\u00e9curit\u00e9 sociale 2 55 08 14 168 025 38", "fr_insee", "2 55 08 14 168 025 38"),
    ("DNI 12345678-Z", "es_dni", "12345678-Z"),
    ("NIE X1234567L", "es_nie", "X1234567L"),
    ("codice fiscale RSSMRA85T10A562S", "it_codice_fiscale", "RSSMRA85T10A562S"),
    ("BSN 111222333", "nl_bsn", "111222333"),
    ("routing 021000021", "us_routing", "021000021"),
    ("CPF 529.982.247-25", "br_cpf", "529.982.247-25"),
    ("id 11010519491231002X", "cn_resident_id", "11010519491231002X"),
    ("from 8.8.4.4 today", "ip", "8.8.4.4"),
    ("host fe80::1ff:fe23:4567:890a answers", "ip", "fe80::1ff:fe23:4567:890a"),
    ("MAC 3c:22:fb:45:9a:01,", "mac", "3c:22:fb:45:9a:01"),
    ("Write to ann.lee+x@corp.co.uk.", "email", "ann.lee+x@corp.co.uk"),
    ("收件人是ann@corp.com和bob", "email", "ann@corp.com"),
    ('{"to": "\\nann@corp.com"}', "email", "ann@corp.com"),
    ("see (https://corp.com/a_(b)?q=1).", "url", "https://corp.com/a_(b)?q=1"),
    ("call (202) 456-1414 now", "phone", "(202) 456-1414"),
    ("Fax: +41 (0)69 979 80 58", "phone", "+41 (0)69 979 80 58"),
    ("Mobile: 0490 39 07 81", "phone", "0490 39 07 81"),
    ("020 7219 3000", "phone", "020 7219 3000"),
    ("tel. (022) 12345", "phone", "(022) 12345"),
    ("mobile \uff10\uff12\uff10 7219 3000", "phone", "\uff10\uff12\uff10 7219 3000"),
    ("She was born on March 3, 1985.", "birth_date", "March 3, 1985"),
    ("Date of birth: 03/04/1985", "birth_date", "03/04/1985"),
    ("passport number C01X00T47", "passport", "C01X00T47"),
    ("My driver's license number is U62928788557186", "drivers_license", "U62928788557186"),
    ("account number: 12345678", "bank_account", "12345678"),
]
LEFT = [
    "In 1914-1918 there were 10,000,000 soldiers.",
    "3.14159265358979 and 2.71828182845905",
    "Answer: 99034068, and call twice: 10000000",
    "472547338\n+960397912423686",
    "filed under 1900-1920, Home",
    "ISBN 978-3-16-148410-0",
    "He has 2000-500=1500 phones.",
    "There were 1 000 000 + 1 500 000 of them.",
    "version 1.2.3.4 of section 4.3.2.1",
    "at 127.0.0.1, 192.0.2.7 and 2001:db8::1",
    "ann@example.com and https://example.org/x",
    "The (202) 555-0143 of films",
    "The war began on 1 September 1939.",
    "4111 1111 1111 1112",
    "std::vector<int> a::b; 12:30:45",
    "order 123456789, invoice 987654321",
    "2020-06-20 14:11:22",
    "shop.com is a site",
]


def found(text: str, least: float = 0.5) -> list[tuple[str, str]]:
    return [(span.kind, text[span.start : span.end]) for span in settle(Patterns().find(text), least)]


@pytest.mark.parametrize(("text", "kind", "value"), FOUND)
def test_it_is_found_with_its_kind_and_its_bounds(text: str, kind: str, value: str) -> None:
    assert found(text) == [(kind, value)]


@pytest.mark.parametrize("text", LEFT)
def test_what_is_no_personal_data_is_left(text: str) -> None:
    assert found(text) == []


def test_only_the_kinds_that_are_asked_for_are_found() -> None:
    text = "ann@corp.com, (202) 456-1414, 4111 1111 1111 1111, https://corp.com, born 3 March 1985, 8.8.4.4"
    for kind in ("email", "phone", "credit_card", "url", "birth_date", "ip"):
        assert {span.kind for span in Patterns(frozenset({kind})).find(text)} == {kind}
    assert {span.kind for span in Patterns().find(text)} <= set(KINDS)


def test_the_longest_wins_then_the_most_certain() -> None:
    spans = [
        Span(0, 4, "a", 0.9),
        Span(0, 6, "b", 0.6),
        Span(7, 9, "a", 0.6),
        Span(7, 9, "b", 0.7),
        Span(0, 9, "c", 0.4),
    ]
    assert settle(spans, 0.5) == [Span(0, 6, "b", 0.6), Span(7, 9, "b", 0.7)]
    assert settle(spans[::-1], 0.5) == settle(spans, 0.5)
    # Every card number is also a bank's: the word decides.
    assert found("account number: 4111111111111111") == [("credit_card", "4111111111111111")]


def test_a_value_is_known_again_as_a_whole_word_only() -> None:
    assert [span.start for span in repeated("X1 and AX1 and X12 and (X1)", {"X1": "passport"})] == [0, 24]


def test_example_numbers_of_every_country_are_found() -> None:
    """Google's example of each region: with its country, and as it is written at home behind the word."""
    styles = phonenumbers.PhoneNumberFormat
    asked = missed = 0
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        number = phonenumbers.example_number_for_type(region, phonenumbers.PhoneNumberType.MOBILE)
        for style, before in ((styles.INTERNATIONAL, "write or "), (styles.E164, ""), (styles.NATIONAL, "Phone: ")):
            written = "" if number is None else phonenumbers.format_number(number, style)
            if sum(map(str.isdigit, written)) >= 7 and "555" not in written:
                asked += 1
                missed += ("phone", written) not in found(f"{before}{written} ok")
    assert asked > 600
    assert missed <= 0.01 * asked


@given(st.text(alphabet="0123456789 .-()+@:/abAB\n\\xn\u00a0\uff11\u00b2", max_size=60) | st.text(max_size=60))
def test_any_text_is_read_and_spans_lie_in_it(text: str) -> None:
    for span in Patterns().find(text):
        assert 0 <= span.start < span.end <= len(text)
        assert 0 < span.certainty <= 1


@pytest.mark.parametrize("piece", ["1", "1-", "a.", "a@", "1 ", ":a", "1.1.", "(1)", "aa:", "born 1 ", "passport no "])
def test_time_grows_with_the_text_and_no_faster(piece: str) -> None:
    text = piece * (40_000 // len(piece))
    begin = time.process_time()
    Patterns().find(text)
    assert time.process_time() - begin < 3
