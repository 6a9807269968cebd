"""Criteria: one search parameter, its modifiers, chains and `_has`, as a `Criterion`.

https://hl7.org/fhir/R4/search.html#modifiers, #chaining and #has.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from fhir_server.core.identity import is_resource_id
from fhir_server.core.search import filter as filter_
from fhir_server.core.search import filter_comparison, hierarchy, word_query, words
from fhir_server.core.search.codes import CodeReader
from fhir_server.core.search.parameter import (
    SearchParameter,
    SearchParameters,
    SearchType,
    Source,
)
from fhir_server.core.search.query import (
    AnyOf,
    Chain,
    Clause,
    CompositeValue,
    Criterion,
    Has,
    MissingValue,
    TokenValue,
    UriValue,
    Value,
)
from fhir_server.core.search.values import MAX_VALUE_LENGTH, ValueReader, split, unescape
from fhir_server.core.terminology.terminology import NotLoaded, Terminology
from fhir_server.errors import InvalidSearch

MAX_DEPTH = 8
MAX_CRITERIA = 300
MAX_VALUES = 20_000

SPECIAL = frozenset({words.TEXT, words.CONTENT, "_list", "_filter"})
"""Parameters of every type that R4 defines in words."""

T = TypeVar("T")


class UnknownParameter(InvalidSearch):
    """No such search parameter: the one fault that lenient handling may pass over."""


def shown(name: str) -> str:
    """A name as a message may show it: printable and short."""
    short = name if len(name) <= 64 else name[:63] + "…"
    return "".join(character if character.isprintable() else "?" for character in short)


Leaf = Callable[[SearchParameter, str], Criterion]
"""What a parameter, with its modifier, is compared with at the end of a chain."""


class CriteriaReader:
    """Reads the criteria of one search; counts what they cost."""

    def __init__(
        self, parameters: SearchParameters, values: ValueReader, terminology: Terminology
    ) -> None:
        self._parameters = parameters
        self._values = values
        self._codes = CodeReader(parameters, values, terminology)
        self._made = 0
        self._read_values = 0

    def read(self, resource_type: str, name: str, text: str) -> Criterion:
        """The criterion that `name=text` is about `resource_type`.

        Raises:
            UnknownParameter: there is no such parameter, or the value is empty.
            NotLoaded: a value set or code system has to be looked for first.
            InvalidSearch: it cannot be applied.
        """
        if not text:
            raise UnknownParameter(f"{shown(name)} has no value")

        def compare(parameter: SearchParameter, modifier: str) -> Criterion:
            return self._compare(parameter, modifier, text)

        return self._start(resource_type, name, compare)

    def _start(self, resource_type: str, name: str, leaf: Leaf) -> Criterion:
        if name.count(".") + name.count("_has:") >= MAX_DEPTH:
            raise InvalidSearch(f"chains are at most {MAX_DEPTH} deep")
        return self._read(resource_type, name, leaf)

    def _read(self, resource_type: str, name: str, leaf: Leaf) -> Criterion:
        self._made += 1
        if self._made > MAX_CRITERIA:
            raise InvalidSearch("the chains are about too many types: name them, as in a:Type.b")
        if name.startswith("_has:"):
            return self._has(resource_type, name, leaf)
        head, dot, rest = name.partition(".")
        if dot:
            return self._chain(resource_type, head, rest, leaf)
        code, colon, modifier = name.partition(":")
        parameter = self._parameters.get(resource_type, code)
        if parameter is None:
            if code not in SPECIAL or resource_type not in self._parameters.resource_types:
                raise UnknownParameter(f"{shown(code)} is no search parameter of {resource_type}")
            parameter = words.parameter(resource_type, code)
        if colon and not modifier:
            raise InvalidSearch(f"{code}: the modifier is empty")
        return leaf(parameter, modifier)

    def _has(self, resource_type: str, name: str, leaf: Leaf) -> Criterion:
        parts = name.split(":", 3)
        if len(parts) != 4 or not parts[3]:
            raise InvalidSearch("_has: expected _has:Type:reference:parameter")
        _, other, code, rest = parts
        parameter = self._reference(other, code, "_has")
        targets = parameter.target_types
        if targets and resource_type not in targets:
            raise InvalidSearch(f"_has: {other}:{code} does not refer to {resource_type}")
        return Has(parameter, self._read(other, rest, leaf))

    def _chain(self, resource_type: str, head: str, rest: str, leaf: Leaf) -> Criterion:
        code, _, modifier = head.partition(":")
        parameter = self._reference(resource_type, code, shown(head))
        if modifier and modifier not in self._parameters.resource_types:
            raise InvalidSearch(f"{shown(head)}: the modifier is no resource type")
        targets = parameter.target_types
        if modifier and targets and modifier not in targets:
            raise InvalidSearch(f"{shown(head)}: it does not refer to that type")
        chains: list[Criterion] = []
        refusal: InvalidSearch | None = None
        for target in (modifier,) if modifier else targets or self._parameters.resource_types:
            try:
                criterion = self._read(target, rest, leaf)
            except NotLoaded:
                raise
            except InvalidSearch as error:
                # Another type may have a parameter of that name and kind.
                if self._made > MAX_CRITERIA or self._read_values > MAX_VALUES:
                    raise
                if refusal is None or isinstance(refusal, UnknownParameter):
                    refusal = error
            else:
                chains.append(Chain(parameter, target, criterion))
        if not chains:
            raise refusal or UnknownParameter(f"{shown(head)} refers to nothing")
        return chains[0] if len(chains) == 1 else AnyOf(tuple(chains))

    def _reference(self, resource_type: str, code: str, name: str) -> SearchParameter:
        if resource_type not in self._parameters.resource_types:
            raise InvalidSearch(f"{name}: {shown(resource_type)} is no resource type")
        parameter = self._parameters.get(resource_type, code)
        if parameter is None:
            raise UnknownParameter(f"{shown(code)} is no search parameter of {resource_type}")
        if parameter.type is not SearchType.REFERENCE:
            raise InvalidSearch(f"{name}: {shown(code)} is not a reference")
        return parameter

    def _compare(self, parameter: SearchParameter, modifier: str, text: str) -> Criterion:
        if parameter.type is SearchType.SPECIAL:
            return self._special(parameter, modifier, text)
        if parameter.type is SearchType.COMPOSITE and not modifier:
            return self._composite(parameter, text)
        if parameter.type is SearchType.REFERENCE and modifier in ("above", "below"):
            return self._hierarchy(parameter, modifier, text)
        return self._clause(parameter, modifier, text)

    def _special(self, parameter: SearchParameter, modifier: str, text: str) -> Criterion:
        resource_type, code = parameter.resource_type, parameter.code
        if code not in SPECIAL:
            raise InvalidSearch(f"{code} is not supported")
        if modifier:
            raise InvalidSearch(f"{code}: modifiers are not supported")
        if code == "_filter":
            return filter_.parse(text, partial(self._filtered, resource_type))
        if code == "_list":
            return self._list(resource_type, text)
        found = tuple(
            word_query.parse(parameter, unescape(part)) for part in self._alternatives(code, text)
        )
        if not found:
            raise InvalidSearch(f"{code}: there is nothing to search for")
        return found[0] if len(found) == 1 else AnyOf(found)

    def _filtered(self, resource_type: str, asked: filter_.Comparison) -> Criterion:
        path, operator, value = asked
        # "id" is how R4's own examples write it.
        path = re.sub(r"(?<![^.:])id\Z", "_id", path)

        def compare(parameter: SearchParameter, modifier: str) -> Criterion:
            if modifier:
                raise InvalidSearch(f"_filter: {parameter.code}: operators stand for modifiers")
            if parameter.type is SearchType.COMPOSITE and operator == "eq":
                return self._composite(parameter, value)
            return filter_comparison.criterion(
                self._values, self._codes, parameter, operator, value
            )

        return self._start(resource_type, path, compare)

    def _list(self, resource_type: str, text: str) -> Criterion:
        """Resources that a List has as its items."""
        item, identity = self._parameters.get("List", "item"), self._parameters.get("List", "_id")
        if item is None or identity is None:
            raise InvalidSearch("_list is not supported")
        if text.startswith("$"):
            raise InvalidSearch(
                "_list: functional lists such as $current-problems are not supported"
            )
        ids = self._each("_list", text, lambda _, part: part.removeprefix("List/"))
        if not all(map(is_resource_id, ids)):
            raise InvalidSearch("_list: expected the id of a List")
        values = tuple(TokenValue(None, resource_id) for resource_id in ids)
        return Has(item, Clause(identity, "", values))

    def _hierarchy(self, parameter: SearchParameter, modifier: str, text: str) -> Criterion:
        name = f"{parameter.code}:{modifier}"
        found: list[Criterion] = []
        for part in self._alternatives(name, text):
            for value in self._values.reference(name, part, parameter.target_types, None):
                resource_type = value.resource_type
                if resource_type is None:
                    raise InvalidSearch(f"{name}: expected Type/id")
                parent = hierarchy.part_of(self._parameters, resource_type)
                identity = self._parameters.get(resource_type, "_id")
                if parent is None or identity is None:
                    raise InvalidSearch(f"{name}: {resource_type} has no hierarchy")
                self._made += hierarchy.DEEPEST
                if self._made > MAX_CRITERIA:
                    raise InvalidSearch(f"{name}: too many values")
                found += (
                    hierarchy.below(parameter, parent, value)
                    if modifier == "below"
                    else hierarchy.above(parameter, parent, identity, value)
                )
        if not found:
            raise InvalidSearch(f"{name}: there is nothing to search for")
        return AnyOf(tuple(found))

    def _clause(self, parameter: SearchParameter, modifier: str, text: str) -> Clause:
        code = parameter.code
        name = f"{code}:{modifier}" if modifier else code
        if modifier == "missing" and parameter.type is not SearchType.COMPOSITE:
            if text not in ("true", "false"):
                raise InvalidSearch(f"{name}: expected true or false")
            return Clause(parameter, modifier, (MissingValue(text == "true"),))
        values, codes = self._values, self._codes
        match parameter.type, modifier:
            case SearchType.TOKEN, "of-type":
                # The index keeps these as a parameter beside it.
                of_type = f"{code}:of-type"
                parameter = parameter._replace(code=of_type, sources=_beside(parameter, "of-type"))
                return Clause(parameter, "", self._each(name, text, values.of_type))
            case SearchType.TOKEN, "text":
                return Clause(parameter, modifier, self._each(name, text, values.string))
            case SearchType.TOKEN, "" | "not":
                return Clause(
                    parameter, modifier, self._several(parameter, name, text, codes.tokens)
                )
            case SearchType.TOKEN, "in" | "not-in":
                listed = self._several(parameter, name, text, codes.in_value_set)
                return Clause(parameter, "not" if modifier == "not-in" else "", listed)
            case SearchType.TOKEN, "above" | "below":
                read = codes.above if modifier == "above" else codes.below
                return Clause(parameter, "", self._several(parameter, name, text, read))
            case SearchType.URI, "above" | "below":
                return self._uris(parameter, modifier, text)
            case SearchType.STRING, "" | "exact" | "contains":
                return Clause(parameter, modifier, self._each(name, text, values.string))
            case SearchType.REFERENCE, "identifier":
                return Clause(parameter, modifier, self._each(name, text, values.token))
            case SearchType.REFERENCE, _ if (
                not modifier or modifier in self._parameters.resource_types
            ):
                return self._reference_clause(parameter, modifier, name, text)
            case _, "" if (reader := _READERS.get(parameter.type)) is not None:
                return Clause(parameter, "", self._each(name, text, partial(reader, values)))
        raise InvalidSearch(f"{shown(name)}: the modifier is not supported")

    def _uris(self, parameter: SearchParameter, modifier: str, text: str) -> Clause:
        name = f"{parameter.code}:{modifier}"
        uris = self._each(name, text, self._values.uri)
        if not all("://" in uri for (uri,) in uris):
            raise InvalidSearch(f"{name}: a URN has no path to be above or below")
        if modifier == "below":
            return Clause(parameter, "below", uris)
        above = (UriValue(each) for (uri,) in uris for each in hierarchy.uris_above(uri))
        return Clause(parameter, "", tuple(dict.fromkeys(above)))

    def _several(
        self,
        parameter: SearchParameter,
        name: str,
        text: str,
        read: Callable[[SearchParameter, str, str], tuple[TokenValue, ...]],
    ) -> tuple[TokenValue, ...]:
        """The values of all alternatives, of which each may be many."""
        lists = self._each(name, text, partial(read, parameter))
        found = dict.fromkeys(value for values in lists for value in values)
        self._read_values += len(found)
        if self._read_values > MAX_VALUES:
            raise InvalidSearch(f"{name}: too many values for so many types")
        return tuple(found)

    def _each(self, name: str, text: str, read: Callable[[str, str], T]) -> tuple[T, ...]:
        """The alternatives of `text`; an empty one can match nothing and is left out."""
        found = tuple(dict.fromkeys(read(name, part) for part in self._alternatives(name, text)))
        if not found:
            raise InvalidSearch(f"{name}: there is nothing to search for")
        return found

    def _alternatives(self, name: str, text: str) -> list[str]:
        parts = [part for part in split(text, ",") if part]
        if any(len(part) > MAX_VALUE_LENGTH for part in parts):
            raise InvalidSearch(f"{name}: a value is too long")
        self._read_values += len(parts)
        if self._read_values > MAX_VALUES:
            raise InvalidSearch(f"{name}: too many values for so many types")
        return parts

    def _reference_clause(
        self, parameter: SearchParameter, modifier: str, name: str, text: str
    ) -> Clause:
        targets = parameter.target_types
        if modifier and targets and modifier not in targets:
            raise InvalidSearch(f"{name}: it does not refer to that type")
        values: dict[Value, None] = {}
        for part in self._alternatives(name, text):
            for value in self._values.reference(name, part, targets, modifier or None):
                values[value] = None
        if not values:
            raise InvalidSearch(f"{name}: there is nothing to search for")
        return Clause(parameter, "", tuple(values))

    def _composite(self, parameter: SearchParameter, text: str) -> Criterion:
        """A clause, or for a composite that is made of others one for each of them."""
        clauses = [
            self._composite_clause(owner, text)
            for source in parameter.sources
            if (owner := self._parameters.get(parameter.resource_type, source.code)) is not None
        ]
        return clauses[0] if len(clauses) == 1 else AnyOf(tuple(clauses))

    def _composite_clause(self, parameter: SearchParameter, text: str) -> Clause:
        parts = [
            self._parameters.get(parameter.resource_type, component.code)
            for component in parameter.components
        ]

        def read(name: str, alternative: str) -> CompositeValue:
            texts = split(alternative, "$")
            if len(texts) != len(parts) or not all(texts):
                raise InvalidSearch(f"{name}: expected {len(parts)} values joined by $")
            return CompositeValue(
                tuple(self._part(name, part, text) for part, text in zip(parts, texts, strict=True))
            )

        return Clause(parameter, "", self._each(parameter.code, text, read))

    def _part(self, name: str, parameter: SearchParameter | None, text: str) -> Value:
        values = self._values
        if parameter is None:
            raise InvalidSearch(f"{name} is not supported")
        if parameter.type is SearchType.REFERENCE:
            return values.reference(name, text, parameter.target_types, None)[0]
        read = _READERS.get(parameter.type)
        if read is None:
            raise InvalidSearch(f"{name} is not supported")
        return read(values, name, text)


_READERS: Mapping[SearchType, Callable[[ValueReader, str, str], Value]] = {
    SearchType.DATE: ValueReader.date,
    SearchType.NUMBER: ValueReader.number,
    SearchType.QUANTITY: ValueReader.quantity,
    SearchType.URI: ValueReader.uri,
    SearchType.TOKEN: ValueReader.token,
    SearchType.STRING: ValueReader.string,
}


def _beside(parameter: SearchParameter, kind: str) -> tuple[Source, ...]:
    return tuple(Source(f"{source.code}:{kind}") for source in parameter.sources)
