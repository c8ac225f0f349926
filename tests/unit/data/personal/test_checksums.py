"""Check digits, by numbers that their authorities and the literature publish as examples; one digit more is wrong."""

from __future__ import annotations

import pytest

from luthier.data.personal import checksums

PUBLISHED = {
    "luhn": ("4111111111111111", "79927398713", "378282246310005", "5555555555554444"),
    "iban": ("GB82WEST12345698765432", "DE89370400440532013000", "FR1420041010050500013M02606", "NO9386011117947"),
    "aba": ("021000021", "011401533", "111000025"),
    "nhs": ("9434765919", "4010232137"),
    "de_tax_id": ("86095742719", "47036892816", "65929970489"),
    "insee": ("255081416802538", "180126955222380"),
    "dni": ("12345678Z", "X1234567L", "00000000T"),
    "codice_fiscale": ("RSSMRA85T10A562S", "MRTMTT91D08F205J"),
    "bsn": ("111222333", "123456782"),
    "pesel": ("44051401359", "02070803628"),
    "cpf": ("52998224725", "11144477735"),
    "hetu": ("131052308T", "131052A308T"),
    "be_number": ("85073003328", "93051822361"),
    "ahv": ("7569217076985",),
    "tfn": ("123456782", "876543210"),
    "nric": ("S1234567D", "T0123456G", "F1234567N"),
    "resident_id": ("11010519491231002X", "440524188001010014"),
    "aadhaar": ("234123412346", "999941057058"),
}


@pytest.mark.parametrize(("name", "number"), [(name, number) for name, some in PUBLISHED.items() for number in some])
def test_published_examples_pass_and_their_neighbors_do_not(name: str, number: str) -> None:
    valid = getattr(checksums, name)
    assert valid(number)
    last = number[-1]
    others = "0123456789" if last.isdigit() else "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert [sign for sign in others if valid(number[:-1] + sign)] == [last]
    if name != "luhn":  # any length will do
        assert not valid(number[:-1])
        assert not valid(number + "0")


@pytest.mark.parametrize(
    ("number", "valid"),
    [
        ("219099999", True),
        ("457555462", True),
        ("000123456", False),
        ("666123456", False),
        ("900123456", False),
        ("123006789", False),
        ("123450000", False),
        ("12345678", False),
    ],
)
def test_social_security_numbers_follow_the_rules_of_what_is_never_issued(number: str, valid: bool) -> None:
    assert checksums.ssn(number) is valid


@pytest.mark.parametrize(
    ("number", "valid"),
    [("AB123456C", True), ("AA000000A", True), ("QQ123456C", False), ("BG123456A", False), ("AO123456A", False)],
)
def test_national_insurance_numbers_have_letters_that_are_in_use(number: str, valid: bool) -> None:
    assert checksums.nino(number) is valid


def test_swapped_digits_are_told_by_verhoeffs_check() -> None:
    assert checksums.aadhaar("234123412346")
    assert not checksums.aadhaar("324123412346")
