"""Reach: which resources one principal may do what with, as criteria of queries.

A scope grants interactions with a type, its circle says whose, its parameters which. What
no scope grants is true of nothing, so a type that is not thought of is closed.
https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Literal

from fhir_server.core.query_string import Params
from fhir_server.core.search import match
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.match import Indexed
from fhir_server.core.search.parameter import SearchParameter, Source
from fhir_server.core.search.query import (
    UNRESTRICTED,
    AllOf,
    AnyOf,
    Chain,
    Clause,
    Criterion,
    Has,
    Not,
    Query,
    ReferenceValue,
    Restriction,
    TokenValue,
)
from fhir_server.core.security import subscriber
from fhir_server.core.security.circle import NOBODY, Circle
from fhir_server.core.security.principal import Principal
from fhir_server.core.security.restriction import NOTHING, SUBSCRIPTION, Criteria, Knowledge
from fhir_server.core.security.scope import ANY_TYPE, Permission, Scope
from fhir_server.core.version import Version
from fhir_server.errors import FhirError

Act = Literal["c", "r", "u", "d", "s", "any", "near"]
"""A letter of a scope; "any" is what may be read, changed or deleted: all that is known of.

"near" is what lies in the circles, whatever the scopes say: what may be referred to.
"""

_KNOWN_BY: tuple[Permission, ...] = ("r", "s", "u", "d")
_WRITES = frozenset("cud")
_CLOSED: Criteria = (NOTHING,)
_EVERYTHING = AllOf(())

Read = Callable[[str, Params], Criteria]
"""The criteria that the parameters of a scope are; raises `FhirError` if they are none."""


class Reach:
    """One principal's, as of the moment its circles were drawn; safe to share.

    `circles` are by the context of scopes; a context without one reaches nobody.
    """

    def __init__(
        self,
        principal: Principal,
        circles: Mapping[str, Circle],
        knowledge: Knowledge,
        read: Read,
    ) -> None:
        self.principal = principal
        self._circles = circles
        self._knowledge = knowledge
        self._read = read
        self._criteria: dict[tuple[Act, str], Criteria] = {}
        self._restrictions: dict[tuple[Act, frozenset[str]], Restriction] = {}
        self._marks: dict[str, str] = {}

    def grants(self, act: Permission, resource_type: str) -> bool:
        """Whether some scope lets such an interaction be tried."""
        return any(scope.covers(resource_type, act) for scope in self.principal.scopes)

    def is_open(self, act: Act, resource_type: str) -> bool:
        """Whether all resources of the type are within reach."""
        return not self.criteria(act, resource_type)

    def is_wide(self, resource_type: str) -> bool:
        """Whether everyone's resources of the type may be written, but for those withheld."""
        return any(
            scope.resource_type in (ANY_TYPE, resource_type) and _is_wide(self._circle(scope))
            for scope in self.principal.scopes
        )

    @property
    def is_of_everyone(self) -> bool:
        """Whether it is everyone's data that it is about, but for what is withheld."""
        return any(_is_wide(self._circle(scope)) for scope in self.principal.scopes)

    @property
    def is_makers(self) -> bool:
        """Whether it is a manufacturer's, and nobody else's beside."""
        circles = [self._circle(scope) for scope in self.principal.scopes]
        return bool(circles) and all(circle.owner is not None for circle in circles)

    @property
    def sees_everything(self) -> bool:
        """Whether nothing at all is kept from it, whatever is stored."""
        return any(
            scope.resource_type == ANY_TYPE
            and not scope.params
            and scope.permissions == frozenset("cruds")
            and _is_unlimited(self._circle(scope))
            for scope in self.principal.scopes
        )

    def mark(self, contexts: Collection[str]) -> str:
        """What is another text once somebody comes into the circles of `contexts`, or leaves."""
        for context in contexts:
            if context not in self._marks:
                self._marks[context] = self._circles.get(context, NOBODY).mark
        return " ".join(f"{each}={self._marks[each]}" for each in sorted(set(contexts)))

    def criteria(self, act: Act, resource_type: str) -> Criteria:
        """What must hold of a resource of the type; none is everything."""
        name = (act, resource_type)
        found = self._criteria.get(name)
        if found is None:
            found = self._criteria[name] = self._find(act, resource_type)
        return found

    def restriction(self, act: Act, query: Query) -> Restriction:
        """What a query has to obey: something for each type that it looks at."""
        if self._is_within(act, query):
            return UNRESTRICTED
        types = frozenset((query.resource_type, *_types(query.criteria)))
        name = (act, types)
        found = self._restrictions.get(name)
        if found is None:
            by_type = tuple(
                (each, criteria) for each in sorted(types) if (criteria := self.criteria(act, each))
            )
            found = self._restrictions[name] = Restriction(by_type)
        return found

    def shows(self, act: Act, version: Version, entries: IndexEntries) -> bool:
        """Whether what one version says is within reach; it has a body.

        Whether what a criterion leads to is there has to be asked of the store.
        """
        criteria = tuple(map(_alone, self.criteria(act, version.key.resource_type)))
        return match.matches(entries, version, criteria, _nothing)

    def has_links(self, act: Act, resource_type: str) -> bool:
        """Whether other resources decide what is within reach."""
        return any(_types(self.criteria(act, resource_type)))

    def _find(self, act: Act, resource_type: str) -> Criteria:
        alternatives: dict[Criteria, None] = {}
        for criteria in self._alternatives(act, resource_type):
            if not criteria:
                return ()
            if NOTHING not in criteria:
                alternatives[criteria] = None
        if not alternatives:
            return _CLOSED
        if len(alternatives) == 1:
            return next(iter(alternatives))
        return (AnyOf(tuple(c[0] if len(c) == 1 else AllOf(c) for c in alternatives)),)

    def _alternatives(self, act: Act, resource_type: str) -> Iterator[Criteria]:
        if act == "near":
            for context in {scope.context for scope in self.principal.scopes}:
                circle = self._circles.get(context, NOBODY)
                yield self._knowledge.within(circle, resource_type, is_write=False)
            return
        for letter in _KNOWN_BY if act == "any" else (act,):
            for scope in self.principal.scopes:
                if scope.covers(resource_type, letter):
                    yield self._of_scope(scope, resource_type, is_write=letter in _WRITES)

    def _of_scope(self, scope: Scope, resource_type: str, *, is_write: bool) -> Criteria:
        circle = self._circle(scope)
        if resource_type == SUBSCRIPTION and not _is_wide(circle):
            whose = self._own_subscriptions()
        else:
            whose = self._knowledge.within(circle, resource_type, is_write=is_write)
        if not scope.params:
            return whose
        try:
            asked = self._read(resource_type, scope.params)
        except FhirError:
            # A grant that cannot be understood is none: without its limit it were wider.
            return _CLOSED
        return _CLOSED if any(_types(asked)) else (*whose, *asked)

    def _own_subscriptions(self) -> Criteria:
        tag = self._knowledge.parameters.get(SUBSCRIPTION, "_tag")
        if tag is None:
            return _CLOSED
        system, code = subscriber.tag(self.principal)
        return (Clause(tag, "", (TokenValue(system, code),)),)

    def _is_within(self, act: Act, query: Query) -> bool:
        """Whether the query by itself asks for nothing out of reach.

        An app asks for its own patient's data: then the search costs what it costs anyone.
        """
        if any(_types(query.criteria)):
            return False
        match self.criteria(act, query.resource_type):
            case ():
                return True
            case (Clause(parameter, "", allowed),):
                wanted = frozenset(allowed)
                return any(
                    isinstance(each, Clause) and _is_narrower(each, parameter, wanted)
                    for each in query.criteria
                )
        return False

    def _circle(self, scope: Scope) -> Circle:
        return self._circles.get(scope.context, NOBODY)


def _is_wide(circle: Circle) -> bool:
    return circle.is_everyone and circle.default


def _is_unlimited(circle: Circle) -> bool:
    return _is_wide(circle) and not circle.rulings


def _is_narrower(clause: Clause, limit: SearchParameter, allowed: frozenset[object]) -> bool:
    parameter, modifier, values = clause
    if modifier or not values:
        return False
    if parameter == limit:
        return all(_of_patient(value) in allowed for value in values)
    # `subject=Patient/42` asks for what `patient=42` does.
    is_same = limit.sources == (Source(parameter.code, "Patient"),) and not parameter.is_derived
    return is_same and allowed.issuperset(values)


def _of_patient(value: object) -> object:
    """A bare id as the reference to a patient that it is."""
    if isinstance(value, ReferenceValue) and value.resource_type is None and value.url is None:
        return value._replace(resource_type="Patient")
    return value


def _types(criteria: Criteria) -> Iterator[str]:
    """The types that criteria lead to."""
    for criterion in criteria:
        match criterion:
            case Chain(_, resource_type, inner):
                yield resource_type
                yield from _types((inner,))
            case Has(parameter, inner):
                yield parameter.resource_type
                yield from _types((inner,))
            case AnyOf(inner_criteria) | AllOf(inner_criteria):
                yield from _types(inner_criteria)
            case Not(inner):
                yield from _types((inner,))


def _alone(criterion: Criterion) -> Criterion:
    """`criterion` with all links taken for granted; none of them stands in a `Not`."""
    match criterion:
        case Chain() | Has():
            return _EVERYTHING
        case AnyOf(criteria):
            return AnyOf(tuple(map(_alone, criteria)))
        case AllOf(criteria):
            return AllOf(tuple(map(_alone, criteria)))
    return criterion


def _nothing(_resource_type: str) -> tuple[Indexed, ...]:
    return ()
