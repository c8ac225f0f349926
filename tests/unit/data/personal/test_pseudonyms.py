"""Pseudonyms: the same for the same value under a key, of the same kind and form, never the value itself."""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.errors import DataError, MachineError
from luthier.data.personal import checksums
from luthier.data.personal.key import VARIABLE, Key, default_file, read_key
from luthier.data.personal.names import FEMALE, MALE, SURNAMES
from luthier.data.personal.patterns import KINDS, Patterns
from luthier.data.personal.pseudonyms import Pseudonyms
from luthier.data.personal.spans import compact, settle

MADE = Pseudonyms(Key(b"a key for these tests", "given"))
OTHER = Pseudonyms(Key(b"another key for these tests", "given"))
VALUES = {
    "email": "Ann.Lee@corp.com",
    "url": "https://www.corp.com/people/ann",
    "ip": "8.8.4.4",
    "mac": "3c:22:fb:45:9a:01",
    "phone": "(202) 456-1414",
    "birth_date": "March 3rd, 1985",
    "iban": "GB82 WEST 1234 5698 7654 32",
    "credit_card": "4111 1111 1111 1111",
    "us_ssn": "219-09-9999",
    "de_tax_id": "86095742719",
    "es_dni": "12345678-Z",
    "it_codice_fiscale": "RSSMRA85T10A562S",
    "in_aadhaar": "2341 2341 2346",
    "fr_insee": "2 55 08 14 168 025 38",
    "passport": "C01X00T47",
    "person": "Mrs. Mary Smith",
    "organization": "Thomas and Sons",
    "place": "New Westminster",
    "address": "6750 Koskikatu 25 Apt. 864",
}


@pytest.mark.parametrize(("kind", "value"), VALUES.items())
def test_a_pseudonym_is_the_keys_and_not_the_value(kind: str, value: str) -> None:
    made = MADE.of(kind, value)
    assert made == MADE.of(kind, value)
    assert made != OTHER.of(kind, value)
    assert value not in made
    assert len(made.split()) == len(value.split())  # what is aligned with words stays so


@pytest.mark.parametrize(
    ("kind", "one", "another"),
    [
        ("credit_card", "4111 1111 1111 1111", "4111111111111111"),
        ("iban", "GB82 WEST 1234 5698 7654 32", "gb82west12345698765432"),
        ("phone", "+1 202-456-1414", "(202) 456 1414"),
        ("us_ssn", "219-09-9999", "219099999"),
        ("person", "JOHN SMITH", "John Smith"),
    ],
)
def test_one_value_written_in_two_ways_has_one_pseudonym(kind: str, one: str, another: str) -> None:
    first, second = (compact(MADE.of(kind, value)) for value in (one, another))
    assert first.endswith(second) or second.endswith(first)
    assert MADE.of(kind, one) != MADE.of(kind, another)  # each in its own form


def test_a_date_is_the_same_in_every_form() -> None:
    named, iso, slashes = (MADE.of("birth_date", form) for form in ("May 13, 1985", "1985-05-13", "05/13/1985"))
    year, month, day = iso.split("-")
    assert slashes == f"{month}/{day}/{year}"
    assert re.fullmatch(rf"[A-Z][a-z]+ {int(day)}, {year}", named)
    assert 1982 <= int(year) <= 1985


def test_pseudonyms_lie_where_nobody_is() -> None:
    assert re.fullmatch(r"[a-z0-9]{8}@example\.(com|org|net)", MADE.of("email", "ann@corp.com"))
    assert re.fullmatch(r"https://www\.\w{8}\.example\.com/\w{6}", MADE.of("url", VALUES["url"]))
    free = [ipaddress.ip_network(n) for n in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15")]
    for number in range(50):
        assert any(ipaddress.ip_address(MADE.of("ip", f"8.8.4.{number}")) in block for block in free)
        card = compact(MADE.of("credit_card", f"411111111111{number:04d}"))
        assert card.startswith("400000")
        assert checksums.luhn(card)
        assert MADE.of("us_ssn", f"219-09-{number + 1:04d}").startswith("9")
        assert not checksums.de_tax_id(MADE.of("de_tax_id", f"860957427{number:02d}"))
    assert ipaddress.ip_address(MADE.of("ip", "fe80::1")) in ipaddress.ip_network("2001:db8::/32")
    assert re.fullmatch(r"\(\d{3}\) 555-01\d\d", MADE.of("phone", "(202) 456-1414"))
    assert re.fullmatch(r"\+44 7700 900\d{3}", MADE.of("phone", "+44 7911 123456"))
    assert checksums.iban(compact(MADE.of("iban", VALUES["iban"])))
    assert MADE.of("iban", "DE89 3704 0044 0532 0130 00")[5:9] == "0000"


def test_names_keep_gender_titles_and_their_parts() -> None:
    title, given_name, surname = MADE.of("person", "Mrs. Mary Smith").split()
    assert title == "Mrs."
    assert given_name in FEMALE
    assert surname in SURNAMES
    assert MADE.of("person", "Mary") == given_name
    assert MADE.of("person", "Mr. Smith") == f"Mr. {surname}"
    assert MADE.of("person", "John Smith").split()[0] in MALE
    assert MADE.of("person", "JOHN SMITH").isupper()
    assert MADE.of("person", "Smith") == surname  # alone too: no given name


@pytest.mark.parametrize("written", ["Al", "Van Den", "Dr. El"])
def test_a_name_of_particles_alone_is_not_left(written: str) -> None:
    made = MADE.of("person", written)
    assert not set(made.split()) & set(written.split()) - {"Dr."}
    assert MADE.of("person", "Ludwig van Beethoven").split()[1] == "van"
    assert MADE.of("person", "Dr.") == "Dr."


def test_a_number_that_a_tagger_took_for_a_person_does_not_stay() -> None:
    assert "4711" not in MADE.of("person", "4711")
    assert MADE.of("person", "4711") == MADE.of("person", "4711")


@pytest.mark.parametrize("kind", ["address", "organization", "place"])
@pytest.mark.parametrize("written", [".", "?", "e", "- -"])
def test_a_mark_or_a_letter_that_a_tagger_took_for_a_name_gets_one_too(kind: str, written: str) -> None:
    made = MADE.of(kind, written)
    assert made != written
    assert len(made.split()) == len(written.split())


def test_what_is_reserved_is_not_found_again() -> None:
    for kind in ("email", "url", "ip", "phone", "us_ssn"):
        made = MADE.of(kind, VALUES[kind])
        assert [span.kind for span in settle(Patterns().find(f"It is {made}, yes."), 0.5) if span.kind == kind] == []


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.text(alphabet="0123456789 .-()+aZ\u00a0\uff11", min_size=1, max_size=30))
def test_whatever_patterns_take_for_a_kind_gets_a_pseudonym(kind: str, text: str) -> None:
    for span in Patterns().find(f"card phone born passport account number: {text}"):
        written = f"card phone born passport account number: {text}"[span.start : span.end]
        assert compact(MADE.of(span.kind, written)) != compact(written)


# ---- the key ---------------------------------------------------------------------------------------------------------


def test_an_absent_key_is_made_for_its_owner_alone_and_found_again(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "key"
    made = read_key(file)
    assert len(made.secret) == 64
    assert "made now" in made.source
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == ["key"]
    again = read_key(file)
    assert again.secret == made.secret
    assert "made now" not in again.source
    assert made.secret.decode() not in repr(made)
    assert str(tmp_path) not in made.source


def test_the_key_comes_from_the_environment_or_the_users_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "sixteen bytes at least")
    assert read_key(None).secret == b"sixteen bytes at least"
    assert read_key(tmp_path / "own").secret != b"sixteen bytes at least"
    monkeypatch.delenv(VARIABLE)
    assert read_key(None).secret == default_file().read_bytes().strip()
    assert default_file().is_relative_to(tmp_path)


def test_a_short_or_open_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "short")
    with pytest.raises(DataError, match="has 5 bytes"):
        read_key(None)
    file = tmp_path / "key"
    file.write_text("x" * 40)
    file.chmod(0o644)
    with pytest.raises(DataError, match="can be read by others") as caught:
        read_key(file)
    assert "chmod 600" in str(caught.value)
    (tmp_path / "plain").write_text("")
    with pytest.raises(MachineError, match="no key for the pseudonyms can be made"):
        read_key(tmp_path / "plain" / "key")
