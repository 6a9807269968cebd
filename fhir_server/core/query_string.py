"""Query strings as pairs of text, in their order; the same rules in URLs, forms and Bundles.

https://hl7.org/fhir/R4/search.html#escaping
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import quote, unquote

from fhir_server.errors import InvalidSearch

MAX_PARAMETERS = 1_000
# Longer texts are not remembered: they would fill the memory.
_SHORT = 500

Params = tuple[tuple[str, str], ...]


def parse(text: str) -> Params:
    """The parameters of `text`; one without a name says nothing and is left out.

    Raises:
        InvalidSearch: not UTF-8 behind its percent signs, or over `MAX_PARAMETERS`.
    """
    if not text:
        return ()
    if text.count("&") >= MAX_PARAMETERS:
        raise InvalidSearch(f"more than {MAX_PARAMETERS} search parameters")
    fields = text.split("&")
    try:
        if len(text) <= _SHORT:
            pairs = [_parse_short_field(field) for field in fields]
        else:
            pairs = [_parse_field(field) for field in fields]
    except UnicodeDecodeError:
        raise InvalidSearch("the query string is not UTF-8") from None
    return tuple([pair for pair in pairs if pair[0]])


def _parse_field(field: str) -> tuple[str, str]:
    name, _, value = field.partition("=")
    return _decode(name), _decode(value)


# Most fields of a search stand in others too: a code, a sort order, whom a ward asks about.
_parse_short_field = lru_cache(maxsize=8_192)(_parse_field)


def _decode(text: str) -> str:
    text = text.replace("+", " ")
    return unquote(text, errors="strict") if "%" in text else text


def parse_condition(text: str) -> Params:
    """`If-None-Exist`: a query string, though many write a URL with one."""
    path, mark, query = text.partition("?")
    return parse(query if mark and "=" not in path else text)


def format(params: Iterable[tuple[str, str]]) -> str:  # noqa: A001 - beside `parse`
    """Percent-encoded, with the characters that search values are made of left legible."""
    return "&".join(
        [
            _format_short_pair(name, value)
            if len(name) + len(value) <= _SHORT
            else _format_pair(name, value)
            for name, value in params
        ]
    )


_LEGIBLE = ":/,|$@*"
_LEGIBLE_NAME = re.compile(r"[A-Za-z0-9_.\-~:]*", re.ASCII)
_LEGIBLE_VALUE = re.compile(r"[A-Za-z0-9_.\-~:/,|$@*]*", re.ASCII)


def _format_pair(name: str, value: str) -> str:
    return f"{_encode_name(name)}={_encode_value(value)}"


_format_short_pair = lru_cache(maxsize=8_192)(_format_pair)


def _encode_name(text: str) -> str:
    return text if _LEGIBLE_NAME.fullmatch(text) else quote(text, safe=":")


def _encode_value(text: str) -> str:
    return text if _LEGIBLE_VALUE.fullmatch(text) else quote(text, safe=_LEGIBLE)
