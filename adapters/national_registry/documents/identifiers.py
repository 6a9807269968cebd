"""National identifiers and their check digits: SNILS, OGRN, the policy number.

What is published as a sample often fails them, so a fault is a text, not an error: whoever
asks decides whether it is a warning.
"""

import re

_ELEVEN, _THIRTEEN, _SIXTEEN = (re.compile(rf"[0-9]{{{n}}}\Z") for n in (11, 13, 16))
# The numbers up to this one were given out before there was a check.
_LAST_WITHOUT_CHECK = 1_001_998


def digits(text: str) -> str:
    """`text` without the blanks and dashes that people write into numbers."""
    return re.sub(r"[\s\-]", "", text)


def snils_fault(text: str) -> str | None:
    """What is wrong with a SNILS, None if nothing is."""
    if not _ELEVEN.match(text):
        return "a SNILS has 11 digits"
    number, check = text[:9], int(text[9:])
    if int(number) <= _LAST_WITHOUT_CHECK:
        return None
    total = sum(int(digit) * weight for digit, weight in zip(number, range(9, 0, -1), strict=True))
    return None if total % 101 % 100 == check else "the SNILS's check digits are wrong"


def ogrn_fault(text: str) -> str | None:
    """What is wrong with an OGRN, None if nothing is."""
    if not _THIRTEEN.match(text):
        return "an OGRN has 13 digits"
    is_good = int(text[:12]) % 11 % 10 == int(text[12])
    return None if is_good else "the OGRN's check digit is wrong"


def policy_fault(text: str) -> str | None:
    """What is wrong with a compulsory-insurance policy's number, None if nothing is."""
    if not _SIXTEEN.match(text):
        return "a policy number has 16 digits"
    total = 0
    for place, digit in enumerate(map(int, reversed(text))):
        doubled = digit * 2 if place % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return None if total % 10 == 0 else "the policy number's check digit is wrong"
