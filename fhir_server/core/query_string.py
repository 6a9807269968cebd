"""Query strings as pairs of text, in their order; the same rules in URLs, forms and Bundles.

https://hl7.org/fhir/R4/search.html#escaping
"""

from collections.abc import Iterable
from urllib.parse import parse_qsl, quote

from fhir_server.errors import InvalidSearch

MAX_PARAMETERS = 1_000

Params = tuple[tuple[str, str], ...]


def parse(text: str) -> Params:
    """The parameters of `text`; one without a name says nothing and is left out.

    Raises:
        InvalidSearch: not UTF-8 behind its percent signs, or over `MAX_PARAMETERS`.
    """
    if not text:
        return ()
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS, errors="strict"
        )
    except UnicodeDecodeError:
        raise InvalidSearch("the query string is not UTF-8") from None
    except ValueError:
        raise InvalidSearch(f"more than {MAX_PARAMETERS} search parameters") from None
    return tuple((name, value) for name, value in pairs if name)


def parse_condition(text: str) -> Params:
    """`If-None-Exist`: a query string, though many write a URL with one."""
    path, mark, query = text.partition("?")
    return parse(query if mark and "=" not in path else text)


def format(params: Iterable[tuple[str, str]]) -> str:  # noqa: A001 - beside `parse`
    """Percent-encoded, with the characters that search values are made of left legible."""
    return "&".join(
        f"{quote(name, safe=':')}={quote(value, safe=_LEGIBLE)}" for name, value in params
    )


_LEGIBLE = ":/,|$@*"
