"""XML in and out, no more than the registry's messages need.

Reading knows elements by their local names, for the registry's prefixes and namespaces vary.
It takes no document type, hence no entities, and stops at a depth.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Final
from xml.parsers import expat

Element = ET.Element

_DEEPEST = 64
# What XML 1.0 has no way to say.
_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NOTHING: Final[Mapping[str, str]] = {}


class XmlError(ValueError):
    """No XML, or XML that is not taken. The message quotes nothing of it."""


class Node:
    """An element that was read. `name` is its local name, `text` its own text, stripped."""

    __slots__ = ("children", "name", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.children: list[Node] = []

    def walk(self) -> Iterator["Node"]:
        """It and everything below it, in document order."""
        yield self
        for child in self.children:
            yield from child.walk()

    def first(self, *names: str) -> "Node | None":
        """The first element of one of these names, itself included."""
        return next((node for node in self.walk() if node.name in names), None)

    def text_of(self, name: str) -> str:
        found = self.first(name)
        return "" if found is None else found.text


def add(
    parent: Element, name: str, attributes: Mapping[str, str] = _NOTHING, text: str = ""
) -> Element:
    """A new last child; characters that XML cannot hold are left out."""
    child = ET.SubElement(parent, name, {k: _NO_XML.sub("", v) for k, v in attributes.items()})
    if text:
        child.text = _NO_XML.sub("", text)
    return child


def write(root: Element) -> bytes:
    """UTF-8 with a declaration; the same tree gives the same bytes."""
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + write_fragment(root)


def write_fragment(root: Element) -> bytes:
    """UTF-8, to be put into a document that declares the prefixes."""
    body: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=False)
    return body


def read(body: bytes) -> Node:
    """The root element.

    Raises:
        XmlError: it is not XML, has a document type, or is nested too deeply.
    """
    reader = _Reader()
    try:
        reader.parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise XmlError(str(error) if isinstance(error, XmlError) else "it is no XML") from None
    return reader.top.children[0]


class _Reader:
    def __init__(self) -> None:
        self.top = Node("")
        self._open = [self.top]
        self._texts: list[list[str]] = [[]]
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text

    def _refuse(self, *_: object) -> None:
        raise XmlError("a document type is not taken")

    def _start(self, name: str, _attributes: object) -> None:
        if len(self._open) > _DEEPEST:
            raise XmlError("it is nested too deeply")
        node = Node(name.rpartition(":")[2])
        self._open[-1].children.append(node)
        self._open.append(node)
        self._texts.append([])

    def _text(self, text: str) -> None:
        self._texts[-1].append(text)

    def _end(self, _name: str) -> None:
        self._open.pop().text = "".join(self._texts.pop()).strip()
