"""A resource to FHIR XML, its elements in the order that R4 gives them."""

from typing import Any

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.resource_json import Resource
from fhir_server.core.xml import narrative
from fhir_server.core.xml.layout import FHIR, Field, Kind, TypeLayout, layouts_of
from fhir_server.core.xml.read import MAX_DEPTH
from fhir_server.core.xml.value import escape, format_value
from fhir_server.errors import Issue, NotAcceptable

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'


def write(resource: Resource, types: ElementTypes, *, is_pretty: bool) -> bytes:
    """`resource` as a document.

    Raises:
        NotAcceptable: it holds what its type does not have, which XML cannot say.
    """
    writer = _Writer(types, is_pretty)
    writer.resource(resource, f' xmlns="{FHIR}"')
    return writer.document()


class _Writer:
    def __init__(self, types: ElementTypes, is_pretty: bool) -> None:
        self._layouts = layouts_of(types)
        self._is_pretty = is_pretty
        self._out: list[str] = [_DECLARATION]
        # The names and indexes that lead to where the writer is.
        self._path: list[tuple[str, int | None]] = []

    def document(self) -> bytes:
        if self._is_pretty:
            self._out.append("\n")
        return "".join(self._out).encode()

    def resource(self, resource: Any, attributes: str = "") -> None:
        name = resource.get("resourceType") if isinstance(resource, dict) else None
        layout = self._layouts.of_resource(name) if isinstance(name, str) else None
        if layout is None:
            raise self._fault("is no resource of FHIR R4")
        if not self._path:
            self._path.append((layout.name, None))
        self._new_line()
        self._out.append(f"<{layout.name}{attributes}")
        self._content(resource, layout, layout.name)

    def _content(self, value: dict[str, Any], layout: TypeLayout, tag: str) -> None:
        """The elements of `value`, and the end of the tag that was begun."""
        ordered = self._ordered(value, layout)
        if not ordered:
            self._out.append("/>")
            return
        self._out.append(">")
        if len(self._path) >= MAX_DEPTH:
            raise self._fault("is nested too deeply")
        for _, field in ordered:
            item, extra = value.get(field.name), value.get("_" + field.name)
            if not field.is_list:
                self._element(field, item, extra, None)
                continue
            items = self._list(item, field)
            extras = self._list(extra, field)
            for index in range(max(len(items), len(extras))):
                one = items[index] if index < len(items) else None
                other = extras[index] if index < len(extras) else None
                self._element(field, one, other, index)
        self._new_line()
        self._out.append(f"</{tag}>")

    def _ordered(self, value: dict[str, Any], layout: TypeLayout) -> list[tuple[int, Field]]:
        found: list[tuple[int, Field]] = []
        fields = layout.fields
        for name in value:
            field = fields.get(name)
            if field is None:
                if name == "resourceType" and layout.is_resource:
                    continue
                field = fields.get(name[1:]) if name[:1] == "_" else None
                if field is None or field.kind is not Kind.PRIMITIVE:
                    raise self._fault(f"has an element that {layout.name} does not have")
                if field.name in value:
                    continue
            if field.kind is not Kind.ATTRIBUTE:
                found.append((field.order, field))
        found.sort(key=_order)
        return found

    def _list(self, items: Any, field: Field) -> list[Any]:
        if items is None:
            return []
        if not isinstance(items, list):
            raise self._fault(f"has a {field.name} that is no list")
        return items

    def _element(self, field: Field, item: Any, extra: Any, index: int | None) -> None:
        name = field.name
        self._path.append((name, index))
        if field.kind is Kind.NARRATIVE:
            if not isinstance(item, str):
                raise self._fault("is no text")
            self._new_line()
            self._out.append(narrative.embed(item))
        elif field.kind is Kind.RESOURCE:
            self._new_line()
            self._out.append(f"<{name}>")
            self._path.append(("", None))
            self.resource(item)
            self._path.pop()
            self._new_line()
            self._out.append(f"</{name}>")
        elif field.kind is Kind.PRIMITIVE:
            self._primitive(field, item, extra)
        else:
            if not isinstance(item, dict) or extra is not None:
                raise self._fault("is no object")
            layout = self._layouts.of(field.type_name)
            self._new_line()
            self._out.append(f"<{name}{self._attributes(item, layout)}")
            self._content(item, layout, name)
        self._path.pop()

    def _primitive(self, field: Field, value: Any, extra: Any) -> None:
        text = None if value is None else format_value(value)
        if (text is None and value is not None) or not isinstance(extra, dict | None):
            raise self._fault("is no primitive value")
        if text is None and not extra:
            raise self._fault("is null")
        said = "" if text is None else f' value="{text}"'
        self._new_line()
        if not extra:
            self._out.append(f"<{field.name}{said}/>")
            return
        layout = self._layouts.of(field.type_name)
        self._out.append(f"<{field.name}{self._attributes(extra, layout)}{said}")
        self._content(extra, layout, field.name)

    def _attributes(self, value: dict[str, Any], layout: TypeLayout) -> str:
        said = ""
        for name in ("id", "url"):
            field = layout.fields.get(name)
            if field is not None and field.kind is Kind.ATTRIBUTE and name in value:
                text = value[name]
                if not isinstance(text, str):
                    raise self._fault(f"has an {name} that is no text")
                said += f' {name}="{escape(text)}"'
        return said

    def _new_line(self) -> None:
        if self._is_pretty:
            depth = len(self._path) - 1
            self._out.append("\n" + "  " * depth)

    def _fault(self, diagnostics: str) -> NotAcceptable:
        steps = [name + ("" if i is None else f"[{i}]") for name, i in self._path if name]
        path = ".".join(steps) or "Resource"
        text = f"{path} {diagnostics}, so it cannot be written as XML; JSON can be asked for"
        return NotAcceptable(issues=(Issue("not-supported", text, path),))


def _order(found: tuple[int, Field]) -> int:
    return found[0]
