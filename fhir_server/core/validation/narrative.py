"""Whether a narrative is what R4 lets one be: text that is formatted, and nothing that acts.

Pages show a narrative as it is, so nothing is taken that loads, runs, submits or covers
anything. https://hl7.org/fhir/R4/narrative.html#xhtml, https://hl7.org/fhir/R4/security.html
"""

import re
from collections.abc import Iterator
from html.entities import html5
from typing import Any
from xml.parsers import expat

_XHTML = "http://www.w3.org/1999/xhtml"
_MOST_DEPTH = 100

_ELEMENTS = frozenset(
    """a abbr acronym address b big blockquote br caption cite code col colgroup dd del dfn div
    dl dt em h1 h2 h3 h4 h5 h6 hr i img ins kbd li ol p pre q samp small span strong sub sup
    table tbody td tfoot th thead tr tt u ul var s strike center font""".split()  # noqa: SIM905 - one a line is a page
)
_ATTRIBUTES = frozenset(
    """abbr accesskey align alt axis bgcolor border cellhalign cellpadding cellspacing
    cellvalign char charoff charset cite class clear color colspan compact coords datetime dir
    face frame headers height href hreflang hspace id lang longdesc name nowrap rel rev rowspan
    rules scope shape size span src start style summary tabindex title type valign value vspace
    width""".split()  # noqa: SIM905 - likewise
)
# An address that is followed when somebody asks for it.
_LINKS = re.compile(r"(?:https?://|mailto:|tel:|urn:|#|(?![A-Za-z][A-Za-z0-9+.\-]*:)[^/\\])", re.I)
# What is loaded by itself is inside, or on this server.
_LOADED = re.compile(
    r"(?:#|data:image/(?:png|jpeg|gif|webp);base64,|(?![A-Za-z][A-Za-z0-9+.\-]*:)[^/\\])", re.I
)
_ADDRESSES = {"href": _LINKS, "cite": _LINKS, "longdesc": _LINKS, "src": _LOADED}
# In a style a backslash or a comment can hide any word.
_STYLE_THAT_ACTS = re.compile(
    r"url|image|import|expression|behavior|binding|script|\\|/\*|@|<|position\s*:\s*fixed", re.I
)
_SPACE_AND_CONTROL = re.compile(r"[\x00-\x20]+")
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{0,40});")
_XML_ENTITIES = frozenset({"amp", "lt", "gt", "quot", "apos"})


class _RefusedError(Exception):
    """Something that no narrative has."""


def acting(value: Any, path: str) -> Iterator[str]:
    """Where in a resource there is a narrative that is not harmless, or may be read as one.

    Whatever is called `div` counts, wherever it stands: what is stored without being
    understood is shown by somebody who takes it for what it is called.
    """
    if isinstance(value, dict):
        for name, part in value.items():
            if name == "div":
                texts = part if isinstance(part, list) else [part]
                if not all(is_harmless(text) for text in texts if isinstance(text, str)):
                    yield f"{path}.div"
            yield from acting(part, f"{path}.{name}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from acting(part, f"{path}[{number}]")


def is_harmless(div: str) -> bool:
    """Whether `div` is a well-formed div of formatted text."""
    parser = expat.ParserCreate("utf-8", " ")
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        uri, _, local = name.rpartition(" ")
        if uri not in ("", _XHTML) or local not in _ELEMENTS or depth >= _MOST_DEPTH:
            raise _RefusedError
        if depth == 0 and local != "div":
            raise _RefusedError
        depth += 1
        for attribute, value in attributes.items():
            _check_attribute(local, attribute, value)

    def end(_name: str) -> None:
        nonlocal depth
        depth -= 1

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = _refuse
    parser.ProcessingInstructionHandler = _refuse
    try:
        parser.Parse(_ENTITY.sub(_character, div).encode(), True)
    except (expat.ExpatError, UnicodeEncodeError, _RefusedError):
        return False
    return True


def _check_attribute(element: str, attribute: str, value: str) -> None:
    namespace, _, name = attribute.rpartition(" ")
    if namespace:
        # xml:lang and xml:space; whatever else has a prefix is of another language.
        if namespace != "http://www.w3.org/XML/1998/namespace" or name == "base":
            raise _RefusedError
        return
    if name not in _ATTRIBUTES:
        raise _RefusedError
    if name in _ADDRESSES:
        # Browsers leave out what stands between: java&#9;script: is javascript:.
        if not _ADDRESSES[name].match(_SPACE_AND_CONTROL.sub("", value) or "#"):
            raise _RefusedError
    elif name == "style" and _STYLE_THAT_ACTS.search(value):
        raise _RefusedError


def _refuse(*_: object) -> None:
    raise _RefusedError


def _character(found: re.Match[str]) -> str:
    name = found[1]
    return found[0] if name in _XML_ENTITIES else html5.get(f"{name};", found[0])
