"""Regular expressions that strangers wrote, run in a time that the length of a text bounds.

https://hl7.org/fhirpath/N1/#matchesregex-string-boolean. The engine does not backtrack, so it
has no look-around and no back references; and what it may keep in memory is bounded.
"""

import re
from functools import lru_cache
from typing import Any

import re2

_LONGEST_PATTERN = 2_000
# The worst pattern that fits into the memory takes some 7 µs for a character.
_LONGEST_TEXT = 20_000
_LONGEST_RESULT = 1_000_000
_MEMORY = 256 * 1024
_GROUP = re.compile(r"\$([0-9]{1,2})")


class PatternRefused(ValueError):
    """A pattern that is none, uses what is not run here, or is too much for a text."""


def matches(text: str, pattern: str) -> bool:
    """Whether `pattern` is somewhere in `text`.

    Raises:
        PatternRefused: it cannot be told.
    """
    _check_length(text)
    return _compile(pattern).search(text) is not None


def replace_matches(text: str, pattern: str, substitution: str) -> str:
    """`text` with each match replaced; ``$1`` is the first group of the match.

    Raises:
        PatternRefused: it cannot be told.
    """
    _check_length(text)
    compiled = _compile(pattern)
    if (len(text) + 1) * len(substitution) > _LONGEST_RESULT:
        raise PatternRefused("what comes of it would be too long")
    if any(int(number) > compiled.groups for number in _GROUP.findall(substitution)):
        raise PatternRefused("it has no such group")

    def substitute(found: Any) -> str:
        return _GROUP.sub(lambda group: found.group(int(group[1])) or "", substitution)

    replaced: str = compiled.sub(substitute, text)
    return replaced


def _check_length(text: str) -> None:
    if len(text) > _LONGEST_TEXT:
        raise PatternRefused("the text is too long to be held against a pattern")


@lru_cache(maxsize=256)
def _compile(pattern: str) -> Any:
    if len(pattern) > _LONGEST_PATTERN:
        raise PatternRefused("it is too long")
    options = re2.Options()
    options.dot_nl = True
    options.max_mem = _MEMORY
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error:
        raise PatternRefused("it is no pattern, or uses what is not run here") from None
