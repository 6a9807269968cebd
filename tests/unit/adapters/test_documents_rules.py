"""Identifiers and their checks, the registry's error codes, and texts without people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.national_registry.documents.faults import (
    Again,
    Owner,
    RegistryError,
    all_faults,
    classify,
    worst,
)
from adapters.national_registry.documents.identifiers import (
    digits,
    ogrn_fault,
    policy_fault,
    snils_fault,
)
from adapters.national_registry.documents.masking import masked


@pytest.mark.parametrize("snils", ["11223344595", "17400354229", "13877203988", "00000000000"])
def test_a_good_snils_passes(snils):
    assert snils_fault(snils) is None


@pytest.mark.parametrize("snils", ["11223344596", "1122334459", "112233445950", "1122334459x", ""])
def test_a_wrong_snils_is_told(snils):
    assert snils_fault(snils)


def test_a_snils_of_remainder_100_ends_in_00():
    sums = {
        text: sum(int(d) * w for d, w in zip(text, range(9, 0, -1), strict=True))
        for text in map(str, range(920_000_000, 920_003_000))
    }
    (of_100,) = [text for text, total in sums.items() if total == 100][:1]
    (of_101,) = [text for text, total in sums.items() if total == 101][:1]
    assert snils_fault(of_100 + "00") is None
    assert snils_fault(of_101 + "00") is None
    assert snils_fault(of_100 + "99")


@given(st.integers(1_001_999, 999_999_999), st.integers(0, 99))
def test_a_snils_has_one_right_check(number, check):
    good = [c for c in range(100) if snils_fault(f"{number:09d}{c:02d}") is None]
    assert len(good) == 1
    assert (snils_fault(f"{number:09d}{check:02d}") is None) == (check in good)


@given(st.integers(0, 10**12 - 1))
def test_an_ogrn_has_one_right_check(number):
    assert sum(ogrn_fault(f"{number:012d}{c}") is None for c in range(10)) == 1


@given(st.integers(0, 10**15 - 1))
def test_a_policy_has_one_right_check(number):
    assert sum(policy_fault(f"{number:015d}{c}") is None for c in range(10)) == 1


def test_numbers_may_be_written_apart():
    assert snils_fault(digits("112-233-445 95")) is None
    assert ogrn_fault("1027700132195") is None
    assert ogrn_fault("1027700132196")


def test_both_spellings_of_recipient_are_one_code():
    assert classify("RECEPIENT_SNILS_MISMATCH") == classify("recipient_snils_mismatch ")
    assert classify("RECEPIENT_SNILS_MISMATCH").owner is Owner.CLINIC


def test_what_may_pass_says_how_long_to_wait_and_the_rest_does_not():
    assert classify("RATE_LIMIT").delay == 60
    for fault in all_faults().values():
        assert (fault.delay > 0) == (fault.again is Again.LATER)


def test_an_unknown_code_is_the_integrators_and_not_sent_again():
    assert classify("WHAT")[1:4] == ("unknown", Owner.INTEGRATOR, Again.NEVER)


@pytest.mark.parametrize(
    ("codes", "again"),
    [
        (["RATE_LIMIT"], Again.LATER),
        (["RATE_LIMIT", "NO_SNILS"], Again.NEVER),
        (["NO_SNILS", "NOT_UNIQUE_PROVIDED_ID"], Again.RECONCILE),
        (["INTERNAL_ERROR", "CA_UNAVAILABLE"], Again.LATER),
        ([], Again.NEVER),
    ],
)
def test_the_worst_error_decides(codes, again):
    assert worst([RegistryError(code) for code in codes]).again is again


@pytest.mark.parametrize(
    "text",
    [
        "СНИЛС 112-233-445 95 пациента Иванова Мария Петровна не соответствует данным ГИП",
        "Указанное значение [Иванова] [Мария] не соответствует, рождена 03.02.1961",
        "Ivanova Maria, 1961-02-03: refused",
        "пациент ИВАНОВА МАРИЯ, полис 1234567890123456",
        "Петровна-Иванова М.: «Мария» 11223344595",
    ],
)
def test_no_person_is_left_in_a_masked_text(text):
    said = masked(text)
    for secret in ("Иванов", "ИВАНОВ", "Мария", "МАРИЯ", "Петровна", "Ivanova", "Maria"):
        assert secret not in said
    for secret in ("112", "445", "1961", "03.02", "1234567890123456"):
        assert secret not in said


def test_what_is_wrong_is_still_told():
    said = masked("Ошибка: элемент ClinicalDocument/recordTarget не найден, строка 17")
    assert said.startswith("Ошибка: элемент")
    assert "не найден, строка 17" in said
