"""Narrative: XHTML as JSON holds it, a text, and as XML holds it, elements.

What is self-contained goes over byte by byte; what leans on namespaces from outside is
written anew without them. https://hl7.org/fhir/R4/narrative.html
"""

import re
from html.entities import html5
from xml.parsers import expat

from fhir_server.core.xml.layout import XHTML
from fhir_server.core.xml.value import escape

_XML_PREFIX = "xml"
_ENTITY = re.compile(r"&([A-Za-z][A-Za-z0-9]{0,40});")
_XML_ENTITIES = frozenset({"amp", "lt", "gt", "quot", "apos"})
_ROOT = re.compile(r"\s*<div(?=[\s>/])")


class NarrativeCopy:
    """Collects what a parser tells of a narrative.

    `is_self_contained` stays true while the source's own bytes would mean the same anywhere.
    """

    def __init__(self, declares_namespace: bool) -> None:
        self.is_self_contained = declares_namespace
        self._out: list[str] = []
        self._namespaces: list[str] = [""]
        self._is_open = False

    @property
    def depth(self) -> int:
        return len(self._namespaces) - 1

    def start(self, name: str, attributes: list[str]) -> None:
        uri, local = self._split(name)
        self._close_tag()
        self._out.append(f"<{local}")
        if uri != self._namespaces[-1]:
            self._out.append(f' xmlns="{escape(uri)}"')
        self._namespaces.append(uri)
        for i in range(0, len(attributes), 2):
            # Only xml:lang and xml:space have a prefix that needs no declaration.
            _, attribute = self._split(attributes[i])
            prefix = "xml:" if attributes[i].endswith(f" {_XML_PREFIX}") else ""
            self._out.append(f' {prefix}{attribute}="{escape(attributes[i + 1])}"')
        self._is_open = True

    def text(self, text: str) -> None:
        self._close_tag()
        # A quotation mark is no mark-up here.
        self._out.append(escape(text).replace("&quot;", '"').replace("&#10;", "\n"))

    def end(self, name: str) -> None:
        self._namespaces.pop()
        if self._is_open:
            self._out.append("/>")
            self._is_open = False
            # Of an empty root, the parser does not tell where in the source it ends.
            self.is_self_contained = self.is_self_contained and self.depth > 0
        else:
            self._out.append(f"</{self._split(name)[1]}>")

    def written(self) -> str:
        """The narrative written anew."""
        return "".join(self._out)

    def _split(self, name: str) -> tuple[str, str]:
        parts = name.split(" ")
        if len(parts) == 3 and parts[2] != _XML_PREFIX:
            self.is_self_contained = False
        return (parts[0], parts[1]) if len(parts) > 1 else ("", parts[0])

    def _close_tag(self) -> None:
        if self._is_open:
            self._out.append(">")
            self._is_open = False


def embed(div: str) -> str:
    """`div` as an XML document can hold it, in the namespace of XHTML.

    What is no well-formed XHTML would break the document, or smuggle elements into it: it
    is kept as the text of a div.
    """
    prepared = _ENTITY.sub(_replace_entity, div)
    namespace = _namespace(prepared)
    if namespace == XHTML:
        return prepared
    if namespace == "":
        prepared = _ROOT.sub(f'<div xmlns="{XHTML}"', prepared, count=1)
        if _namespace(prepared) == XHTML:
            return prepared
    return f'<div xmlns="{XHTML}">{escape(div)}</div>'


def _namespace(text: str) -> str | None:
    """The namespace of the div that `text` is; None if it is none."""
    if not text.lstrip().startswith("<") or text.lstrip().startswith(("<?", "<!")):
        return None
    names: list[str] = []

    def start(name: str, _attributes: list[str]) -> None:
        if not names:
            names.append(name)

    parser = make_parser()
    parser.StartElementHandler = start
    try:
        parser.Parse(text.encode(), True)
    except (expat.ExpatError, UnicodeEncodeError, DoctypeError):
        return None
    uri, _, local = names[0].rpartition(" ")
    return uri if local == "div" else None


class DoctypeError(Exception):
    """A document type declaration: nothing good ever came of one in FHIR."""


def make_parser() -> expat.XMLParserType:
    """A parser that knows namespaces, reads UTF-8 and takes no document type declaration.

    Without one there are no entities but XML's five, and nothing outside to be fetched.
    """
    parser = expat.ParserCreate("utf-8", " ")
    parser.ordered_attributes = True
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    return parser


def _refuse_doctype(*_: object) -> None:
    raise DoctypeError


def _replace_entity(found: re.Match[str]) -> str:
    name = found[1]
    if name in _XML_ENTITIES:
        return found[0]
    return html5.get(f"{name};", found[0])
