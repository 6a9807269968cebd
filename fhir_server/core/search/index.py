"""Indexing: the entries of a resource, by one generated function for each resource type.

The `system` of a `code` element is "": the binding implies it, and the parser knows which.
Known limits: SampledData and contained resources give no entries but their words.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fhir_server.core import date_range
from fhir_server.core.element_types import ElementTypes
from fhir_server.core.fhirpath.expression import Member
from fhir_server.core.fhirpath.parse import parse
from fhir_server.core.fhirpath.path import Path, Step, resolve
from fhir_server.core.fhirpath.walk import Visit, compile_walk
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.extract import extracts, logical_reference
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
        self._texts = TextReader(element_types).entries
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

    def __call__(self, resource: Resource) -> IndexEntries:
        return self.index(resource)

    def check(self, parameter: SearchParameter) -> None:
        """Try whether `parameter` can be compiled: for definitions that are not R4's own.

        Raises:
            FhirPathError: its expression does not fit its resource type.
        """
        owner = parameter._replace(sources=(Source(parameter.code),))
        self._walk(parameter.resource_type, (owner,))

    def _compile(self, resource_type: str) -> Callable[[Resource], IndexEntries]:
        return self._walk(resource_type, tuple(self._parameters.for_type(resource_type).values()))

    def _walk(
        self, resource_type: str, parameters: Sequence[SearchParameter]
    ) -> Callable[[Resource], IndexEntries]:
        within = self._composite_elements(resource_type, parameters)
        names: dict[str, Any] = {
            "entries": IndexEntries,
            "distinct": _distinct,
            "texts": self._texts,
        }
        visits: list[Visit] = []
        for parameter in parameters:
            if parameter.is_derived or parameter.code in _OF_THE_STORE:
                continue
            for path in self._paths(parameter):
                visits.extend(self._visits(parameter, path, within, names))
        return compile_walk(visits, self._types, resource_type, _PROLOGUE, _RESULT, names)

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
