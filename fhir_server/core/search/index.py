"""Indexing: the entries of a resource, by one generated function for each resource type.

The `system` of a `code` element is "": the binding implies it, and the parser knows which.
Known limits: SampledData and contained resources give no entries but their words.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from fhir_server.core import date_range
from fhir_server.core.element_types import ElementTypes
from fhir_server.core.fhirpath.expression import Member
from fhir_server.core.fhirpath.parse import parse
from fhir_server.core.fhirpath.path import Field, Path, Step, resolve
from fhir_server.core.fhirpath.walk import Visit, compile_walk
from fhir_server.core.form import Filled, Form
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.extract import Extract, extracts, logical_reference
from fhir_server.core.search.outline import Found, Outline, outline
from fhir_server.core.search.parameter import (
    SearchParameter,
    SearchParameters,
    SearchType,
    Source,
)
from fhir_server.core.search.words import TextReader
from fhir_server.errors import InvalidResource, Issue

_OF_THE_STORE = frozenset({"_id", "_lastUpdated"})

_LISTS = {
    SearchType.TOKEN: "tokens",
    SearchType.REFERENCE: "references",
    SearchType.DATE: "dates",
    SearchType.STRING: "strings",
    SearchType.NUMBER: "numbers",
    SearchType.QUANTITY: "quantities",
    SearchType.URI: "uris",
}
_PROLOGUE = tuple(
    line for name in _LISTS.values() for line in (f"{name} = []", f"add_{name} = {name}.append")
)
_RESULT = "entries({}, texts(root))".format(
    ", ".join(f"distinct({name})" for name in IndexEntries._fields if name != "texts")
)

# The same walk, only told: which element it would extract, and into which list.
_RECORDING = (
    "found = []",
    *(f"add_{name} = (found, {kind})" for kind, name in enumerate(_LISTS.values())),
)
_NOT_TRIED = object()

T = TypeVar("T")


class Indexer:
    """Gives the index entries of resources; safe to share between threads.

    A type's function is generated when its first resource comes. `time_zone` is the IANA
    name of where dates without a time are.

    Raises:
        ValueError: there is no such time zone.
    """

    def __init__(
        self, parameters: SearchParameters, element_types: ElementTypes, time_zone: str
    ) -> None:
        self._parameters = parameters
        self._types = element_types
        self._extracts = extracts(date_range.load_zone(time_zone))
        self._texts = TextReader(element_types)
        self._walks: dict[str, Callable[[Resource], IndexEntries]] = {}

    def index(self, resource: Resource) -> IndexEntries:
        """All entries of `resource`; of `_id` and `_lastUpdated` the store knows itself.

        Raises:
            InvalidResource: an element is so unlike its type that it cannot be indexed.
        """
        resource_type = resource["resourceType"]
        walk = self._walks.get(resource_type)
        if walk is None:
            # Two threads may both compile it; they get the same.
            walk = self._walks[resource_type] = self._compile(resource_type)
        try:
            return walk(resource)
        except _SHAPE_ERRORS as error:
            raise self._explain(resource) from error

    def __call__(self, resource: Resource | Filled) -> IndexEntries:
        """`index`, sooner done for what has a form: the entries are the same."""
        if not isinstance(resource, Filled):
            return self.index(resource)
        form, values = resource
        found = form.kept.get(self, _NOT_TRIED)
        if found is _NOT_TRIED:
            found = form.kept[self] = self._outline(form, values)
        if found is None:
            return self.index(resource.resource())
        entries: IndexEntries = found.entries(values)
        return entries

    def check(self, parameter: SearchParameter) -> None:
        """Try whether `parameter` can be compiled: for definitions that are not R4's own.

        Raises:
            FhirPathError: its expression does not fit its resource type.
        """
        owner = parameter._replace(sources=(Source(parameter.code),))
        self._walk(parameter.resource_type, (owner,))

    def _outline(self, form: Form, values: Sequence[str | Decimal]) -> Outline | None:
        visits, names = self._visits_of(form.resource_type, self._all(form.resource_type))
        if not all(isinstance(step, Field) for visit in visits for step in visit.path.steps):
            # A condition may look at a gap.
            return None
        recorders = {visit.function: _recorder(names[visit.function]) for visit in visits}
        walk = compile_walk(visits, self._types, form.resource_type, _RECORDING, "found", recorders)
        return outline(form, values, walk, self._texts)

    def _compile(self, resource_type: str) -> Callable[[Resource], IndexEntries]:
        return self._walk(resource_type, self._all(resource_type))

    def _all(self, resource_type: str) -> tuple[SearchParameter, ...]:
        return tuple(self._parameters.for_type(resource_type).values())

    def _walk(
        self, resource_type: str, parameters: Sequence[SearchParameter]
    ) -> Callable[[Resource], IndexEntries]:
        visits, names = self._visits_of(resource_type, parameters)
        names |= {"entries": IndexEntries, "distinct": _distinct, "texts": self._texts.entries}
        return compile_walk(visits, self._types, resource_type, _PROLOGUE, _RESULT, names)

    def _visits_of(
        self, resource_type: str, parameters: Sequence[SearchParameter]
    ) -> tuple[list[Visit], dict[str, Any]]:
        """What a walk does for `parameters`, and the functions that it names."""
        within = self._composite_elements(resource_type, parameters)
        names: dict[str, Any] = {}
        visits: list[Visit] = []
        for parameter in parameters:
            if parameter.is_derived or parameter.code in _OF_THE_STORE:
                continue
            for path in self._paths(parameter):
                visits.extend(self._visits(parameter, path, within, names))
        return visits, names

    def _paths(self, parameter: SearchParameter) -> tuple[Path, ...]:
        if parameter.type not in _LISTS:
            return ()
        expression = parse(parameter.expression)
        root = parameter.resource_type
        paths = resolve(expression, self._types, root, root)
        if any(path.type_name == "Extension" for path in paths):
            # R4 names the extension where it means its value.
            paths += resolve(Member(expression, "value"), self._types, root, root)
        return paths

    def _visits(
        self,
        parameter: SearchParameter,
        path: Path,
        within: dict[str, tuple[tuple[Step, ...], ...]],
        names: dict[str, Any],
    ) -> list[Visit]:
        extract = self._extracts.get((parameter.type, path.type_name))
        if extract is None:
            return []
        element = next((e for e in within.get(parameter.code, ()) if path.steps[: len(e)] == e), ())
        function = f"{parameter.type}_{path.type_name}"
        names[function] = extract
        sink = f"add_{_LISTS[parameter.type]}"
        visits = [Visit(path, function, sink, parameter.code, element)]
        if path.type_name == "Reference" and parameter.type is SearchType.REFERENCE:
            names["logical_reference"] = logical_reference
            visits.append(Visit(path, "logical_reference", "add_tokens", parameter.code, element))
        return visits

    def _composite_elements(
        self, resource_type: str, parameters: Sequence[SearchParameter]
    ) -> dict[str, tuple[tuple[Step, ...], ...]]:
        """For each part of a composite, the steps to the element that its parts share."""
        found: dict[str, tuple[tuple[Step, ...], ...]] = {}
        for composite in parameters:
            if composite.type is not SearchType.COMPOSITE or composite.is_derived:
                continue
            elements = tuple(
                path.steps
                for path in resolve(
                    parse(composite.expression), self._types, resource_type, resource_type
                )
            )
            for component in composite.components:
                if component.code and not component.is_of_resource:
                    found[component.code] = found.get(component.code, ()) + elements
        return found

    def _explain(self, resource: Resource) -> InvalidResource:
        """Which parameters cannot be read from `resource`, one issue for each."""
        resource_type = resource["resourceType"]
        issues: list[Issue] = []
        for parameter in self._parameters.for_type(resource_type).values():
            try:
                self._walk(resource_type, (parameter,))(resource)
            except _SHAPE_ERRORS:
                issues.append(
                    Issue(
                        "structure",
                        f"the element cannot be read for the search parameter {parameter.code}",
                        parameter.expression,
                    )
                )
        return InvalidResource("the resource cannot be indexed", issues=issues)


_SHAPE_ERRORS = (AttributeError, TypeError, KeyError, ValueError, ArithmeticError)


def _distinct(items: list[T]) -> tuple[T, ...]:
    return tuple(items) if len(items) < 2 else tuple(dict.fromkeys(items))


def _recorder(extract: Extract) -> Callable[[Any, tuple[list[Found], int], str, int], None]:
    def record(value: Any, sink: tuple[list[Found], int], parameter: str, element: int) -> None:
        found, kind = sink
        found.append(Found(extract, kind, value, parameter, element))

    return record
