"""Derived parameters: which search parameters say again what others say.

Nothing here is listed by hand. The terms of a parameter's union are compared as
expressions: `patient` is `subject` where that is a Patient, `combo-code` is `code` or
`component-code`, `phonetic` is `name`. Such a parameter owns no index entries.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from fhir_server.core.fhirpath.expression import (
    Expression,
    Focus,
    IsType,
    Item,
    Member,
    OfType,
    Resolve,
    Root,
    Where,
    alternatives,
)
from fhir_server.core.fhirpath.parse import parse
from fhir_server.core.search.parameter import (
    Component,
    SearchParameter,
    SearchParameters,
    SearchType,
    Source,
)

_OF_THE_STORE = frozenset({"_id", "_lastUpdated"})


def derive(
    parameters: Iterable[SearchParameter],
    implied_systems: Callable[[SearchParameter], frozenset[str]] | None = None,
) -> SearchParameters:
    """All parameters, each with its `sources`, and composites with their parts' codes.

    Raises:
        FhirPathError: an expression cannot be read.
    """
    by_type: dict[str, dict[str, SearchParameter]] = {}
    for parameter in parameters:
        by_type.setdefault(parameter.resource_type, {})[parameter.code] = parameter
    found = [derived for of_type in by_type.values() for derived in _derive_type(of_type)]
    return SearchParameters(found, implied_systems) if implied_systems else SearchParameters(found)


class _Terms(NamedTuple):
    """A parameter's union: its paths, by the type of resource they must refer to."""

    parameter: SearchParameter
    by_target: Mapping[str | None, frozenset[Expression]]

    @property
    def untargeted(self) -> frozenset[Expression] | None:
        """Its paths, if no path is limited to a type of resource."""
        return self.by_target[None] if self.by_target.keys() == {None} else None


def _derive_type(of_type: Mapping[str, SearchParameter]) -> list[SearchParameter]:
    kinds: dict[object, list[_Terms]] = {}
    sources: dict[str, tuple[Source, ...]] = {}
    for parameter in of_type.values():
        sources[parameter.code] = (Source(parameter.code),)
        if parameter.type is SearchType.SPECIAL or parameter.code in _OF_THE_STORE:
            continue
        parts = tuple(parse(component.expression) for component in parameter.components)
        kinds.setdefault((parameter.type, parts), []).append(_terms(parameter))
    for kind in kinds.values():
        # Whoever says the least comes first, so that what is made of others follows them.
        kind.sort(key=_rank)
        owners: list[_Terms] = []
        for terms in kind:
            found = _sources(terms, owners)
            if found is None:
                owners.append(terms)
            else:
                sources[terms.parameter.code] = found
    codes = {parameter.url: parameter.code for parameter in of_type.values()}
    return [
        parameter._replace(
            sources=sources[parameter.code],
            components=tuple(
                _component(
                    component,
                    codes,
                    sources,
                    is_derived=sources[parameter.code] != (Source(parameter.code),),
                )
                for component in parameter.components
            ),
        )
        for parameter in of_type.values()
    ]


def _rank(terms: _Terms) -> tuple[bool, int, int, str]:
    code = terms.parameter.code
    size = sum(len(found) for found in terms.by_target.values())
    return (terms.untargeted is None, size, len(code), code)


def _terms(parameter: SearchParameter) -> _Terms:
    by_target: dict[str | None, set[Expression]] = {}
    for term in alternatives(parse(parameter.expression)):
        match term:
            case Where(path, IsType(Resolve(Focus()), target)):
                by_target.setdefault(target, set()).add(path)
            case _:
                by_target.setdefault(None, set()).add(term)
    return _Terms(parameter, {t: frozenset(found) for t, found in by_target.items()})


def _sources(terms: _Terms, owners: Sequence[_Terms]) -> tuple[Source, ...] | None:
    """The owners whose entries together are exactly those of `terms`; None if there are none."""
    found: list[Source] = []
    for target, needed in terms.by_target.items():
        missing = set(needed)
        usable = [(o.parameter.code, o.untargeted) for o in owners if o.untargeted]
        usable.sort(key=lambda owner: -len(owner[1] or ()))
        for code, paths in usable:
            if paths and paths <= needed and paths & missing:
                found.append(Source(code, target))
                missing -= paths
        if missing:
            return None
    return tuple(found)


def _component(
    component: Component,
    codes: Mapping[str, str],
    sources: Mapping[str, tuple[Source, ...]],
    *,
    is_derived: bool,
) -> Component:
    code = codes.get(component.definition.partition("|")[0], "")
    if code and not is_derived:
        # A part of an owner is looked up where its entries are.
        of_part = sources[code]
        code = of_part[0].code if len(of_part) == 1 and of_part[0].target is None else ""
    return component._replace(code=code, is_of_resource=_is_rooted(parse(component.expression)))


def _is_rooted(expression: Expression) -> bool:
    match expression:
        case Root():
            return True
        case Member(source, _) | OfType(source, _) | Where(source, _) | Item(source, _):
            return _is_rooted(source)
        case _:
            return False
