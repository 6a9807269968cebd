"""FHIR XML to a resource, element by element as the parser meets them.

No tree is built: what the type does not have is known when it starts, and what is
nested or wrong beyond measure ends the reading there.
"""

import re
from typing import Any
from xml.parsers import expat

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.resource_json import Resource
from fhir_server.core.xml.layout import (
    FHIR,
    XHTML,
    Field,
    Kind,
    Layouts,
    TypeLayout,
    layouts_of,
)
from fhir_server.core.xml.narrative import DoctypeError, NarrativeCopy, make_parser
from fhir_server.core.xml.value import parse_value
from fhir_server.errors import InvalidResource, Issue, MalformedResource

MAX_DEPTH = 200
_MAX_FAULTS = 100
_ENCODINGS = (None, "utf-8", "utf8", "us-ascii")
_SCHEMA_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance "
_FHIR_NAME = FHIR + " "
_DIV = f"{XHTML} div"
# What UTF-16 and UTF-32 begin with; the parser would read them, and count other bytes.
_WIDE = (b"\xff\xfe", b"\xfe\xff", b"<\x00", b"\x00")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_\-]{1,64}\Z")


def read(body: bytes, types: ElementTypes) -> Resource:
    """The resource that `body` holds.

    Raises:
        MalformedResource: no XML, a document type declaration, no resource of R4.
        InvalidResource: elements, attributes or values that the types do not have.
    """
    return _Reader(body, layouts_of(types)).read()


class _Frame:
    """An element whose end has not come."""

    __slots__ = ("extras", "field", "index", "layout", "text", "value")

    def __init__(self, field: Field | None, index: int | None, layout: TypeLayout | None) -> None:
        self.field = field
        self.index = index
        self.layout = layout
        self.value: dict[str, Any] = {}
        self.text: Any = None
        # By the name of a list of primitives: the ids and extensions of its items.
        self.extras: dict[str, list[dict[str, Any] | None]] = {}


class _Reader:
    def __init__(self, body: bytes, layouts: Layouts) -> None:
        self._body = body
        self._layouts = layouts
        self._stack: list[_Frame] = []
        self._faults: list[Issue] = []
        self._skipped = 0
        self._narrative: NarrativeCopy | None = None
        self._narrative_start = 0
        self._declares_xhtml = False
        self._resource: Resource | None = None
        parser = make_parser()
        parser.namespace_prefixes = True
        parser.XmlDeclHandler = self._declaration
        parser.StartNamespaceDeclHandler = self._namespace
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        self._parser = parser

    def read(self) -> Resource:
        if self._body.startswith(_WIDE):
            raise MalformedResource("FHIR XML is UTF-8")
        try:
            self._parser.Parse(self._body, True)
        except DoctypeError:
            text = "a document type declaration is not taken; FHIR has no use for one"
            raise MalformedResource(text) from None
        except expat.ExpatError as error:
            raise MalformedResource(f"the body is not XML: {error}") from None
        if self._faults:
            raise InvalidResource(issues=self._faults)
        if self._resource is None:
            raise MalformedResource("the body is no resource")
        return self._resource

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if (encoding and encoding.lower()) not in _ENCODINGS:
            raise MalformedResource("FHIR XML is UTF-8")

    def _namespace(self, prefix: str | None, uri: str | None) -> None:
        if prefix is None and uri == XHTML:
            self._declares_xhtml = True

    def _start(self, name: str, attributes: list[str]) -> None:
        declares_xhtml, self._declares_xhtml = self._declares_xhtml, False
        if self._narrative is not None:
            self._narrative.start(name, attributes)
            return
        if self._skipped:
            self._skipped += 1
            return
        if len(self._stack) >= MAX_DEPTH:
            raise MalformedResource("the body is nested too deeply")
        local = _local_name(name)
        if not self._stack:
            self._start_resource(local, attributes)
        elif self._stack[-1].layout is None:
            if local is None or self._stack[-1].value:
                self._skip("must hold one resource")
            else:
                self._start_resource(local, attributes)
        elif name.startswith(_DIV) and self._takes_narrative(name):
            self._start_narrative(declares_xhtml, name, attributes)
        else:
            self._start_element(name, local, attributes)

    def _start_resource(self, name: str | None, attributes: list[str]) -> None:
        layout = None if name is None else self._layouts.of_resource(name)
        if layout is None:
            if not self._stack:
                text = f"the root element must be a resource type of FHIR R4, in {FHIR}"
                raise MalformedResource(issues=(Issue("structure", text, "Resource"),))
            self._skip("must hold a resource type of FHIR R4")
            return
        frame = _Frame(None, None, layout)
        frame.value["resourceType"] = layout.name
        self._stack.append(frame)
        for i in range(0, len(attributes), 2):
            if not attributes[i].startswith(_SCHEMA_INSTANCE):
                self._fault(f"has no attribute {_shown(attributes[i])}")

    def _start_element(self, name: str, local: str | None, attributes: list[str]) -> None:
        parent = self._stack[-1]
        assert parent.layout is not None  # a holder of a resource was told apart before
        field = None if local is None else parent.layout.fields.get(local)
        if field is None or field.kind in (Kind.ATTRIBUTE, Kind.NARRATIVE):
            what = "is an attribute" if field and field.kind is Kind.ATTRIBUTE else "is no element"
            self._skip(f"{_shown(name)} {what} of {parent.layout.name}", _shown(name))
            return
        index = None
        if field.is_list:
            index = len(parent.value.get(field.name, ()))
        elif field.name in parent.value or "_" + field.name in parent.value:
            self._skip(f"{field.name} may be there once only", field.name)
            return
        layout = None if field.kind is Kind.RESOURCE else self._layouts.of(field.type_name)
        frame = _Frame(field, index, layout)
        self._stack.append(frame)
        if attributes:
            self._take_attributes(frame, field, attributes)

    def _take_attributes(self, frame: _Frame, field: Field, attributes: list[str]) -> None:
        for i in range(0, len(attributes), 2):
            name, text = attributes[i], attributes[i + 1]
            known = None if frame.layout is None else frame.layout.fields.get(name)
            if not text:
                self._fault(f"the attribute {_shown(name)} must not be empty")
            elif name == "value" and field.kind is Kind.PRIMITIVE:
                try:
                    frame.text = parse_value(text, field.type_name)
                except ValueError as error:
                    self._fault(f"{field.name} {error}")
            elif known is not None and known.kind is Kind.ATTRIBUTE:
                frame.value[name] = text
            else:
                self._fault(f"{field.name} has no attribute {_shown(name)}")

    def _takes_narrative(self, name: str) -> bool:
        layout = self._stack[-1].layout
        field = None if layout is None else layout.fields.get("div")
        is_div = name == _DIV or name.startswith(_DIV + " ")
        return is_div and field is not None and field.kind is Kind.NARRATIVE

    def _start_narrative(self, declares_xhtml: bool, name: str, attributes: list[str]) -> None:
        if "div" in self._stack[-1].value:
            self._skip("div may be there once only", "div")
            return
        self._narrative = NarrativeCopy(declares_xhtml)
        self._narrative.start(name, attributes)
        self._narrative_start = self._parser.CurrentByteIndex

    def _end(self, name: str) -> None:
        if self._narrative is not None:
            self._narrative.end(name)
            if self._narrative.depth == 0:
                self._stack[-1].value["div"] = self._end_narrative(self._narrative)
                self._narrative = None
            return
        if self._skipped:
            self._skipped -= 1
            return
        frame = self._stack[-1]
        if frame.extras:
            _settle_lists(frame)
        if frame.field is None:
            self._end_resource(frame)
            return
        if not frame.value and frame.text is None and not self._faults:
            self._fault("must have a value or children")
        self._stack.pop()
        if frame.field.kind is Kind.PRIMITIVE:
            _attach_primitive(self._stack[-1], frame.field, frame)
        elif frame.field.is_list:
            self._stack[-1].value.setdefault(frame.field.name, []).append(frame.value)
        else:
            self._stack[-1].value[frame.field.name] = frame.value

    def _end_resource(self, frame: _Frame) -> None:
        self._stack.pop()
        if self._stack:
            self._stack[-1].value = frame.value
        else:
            self._resource = frame.value

    def _end_narrative(self, narrative: NarrativeCopy) -> str:
        end = self._parser.CurrentByteIndex
        if narrative.is_self_contained:
            return self._body[self._narrative_start : self._body.index(b">", end) + 1].decode()
        return narrative.written()

    def _text(self, text: str) -> None:
        if self._narrative is not None:
            self._narrative.text(text)
        elif not self._skipped and not text.isspace():
            self._fault("must hold no text; values are attributes")

    def _skip(self, diagnostics: str, name: str = "") -> None:
        self._skipped = 1
        self._fault(diagnostics, name)

    def _fault(self, diagnostics: str, name: str = "") -> None:
        path = self._path() + (f".{name}" if name else "")
        self._faults.append(Issue("structure", diagnostics, path))
        if len(self._faults) >= _MAX_FAULTS:
            raise InvalidResource(issues=self._faults)

    def _path(self) -> str:
        steps = [self._stack[0].value["resourceType"]] if self._stack else ["Resource"]
        for frame in self._stack:
            if frame.field is not None:
                index = "" if frame.index is None else f"[{frame.index}]"
                steps.append(frame.field.name + index)
        return ".".join(steps)


def _local_name(name: str) -> str | None:
    """The name of an element in FHIR's namespace; None for one of another."""
    if not name.startswith(_FHIR_NAME):
        return None
    # Behind it may stand the prefix that the document uses.
    return name[len(_FHIR_NAME) :].partition(" ")[0]


def _shown(name: str) -> str:
    """What can be said of a name that a client made up."""
    parts = name.split(" ")
    local = parts[1] if len(parts) > 1 else parts[0]
    return local if _PLAIN_NAME.match(local) else "of that name"


def _attach_primitive(parent: _Frame, field: Field, frame: _Frame) -> None:
    if field.is_list:
        parent.value.setdefault(field.name, []).append(frame.text)
        parent.extras.setdefault(field.name, []).append(frame.value or None)
        return
    if frame.text is not None:
        parent.value[field.name] = frame.text
    if frame.value:
        parent.value["_" + field.name] = frame.value


def _settle_lists(frame: _Frame) -> None:
    """Lists of primitives as JSON has them: the extras beside the values, neither all null."""
    for name, extras in frame.extras.items():
        if any(extras):
            frame.value["_" + name] = extras
        if all(value is None for value in frame.value[name]):
            del frame.value[name]
