"""Circles: whose records a principal may see, kept per process and true at every request.

Care teams, insurance and consents are resources. Before each use the commit order is asked
what of them was written since, so a withdrawal in one process counts for the next request
in every other. Blocking: for threads that may wait, never on an event loop.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from threading import Lock

from fhir_server.core import date_range, reference
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.query import Clause, Query, ReferenceValue, TokenValue
from fhir_server.core.security import consent
from fhir_server.core.security.circle import NOBODY, Circle
from fhir_server.core.security.consent import Asker, Ruling, Terms
from fhir_server.core.security.principal import Principal
from fhir_server.core.version import Version
from fhir_server.errors import TooCostly
from fhir_server.interactions.consent_book import ConsentBook
from fhir_server.store.protocol import Outbox

MOST_PATIENTS = 20_000
"""How many patients a circle may name; more is everyone's, or has to be asked for in parts."""

TREATMENT, PAYMENT = "TREAT", "HPAYMT"
INSURER, MANUFACTURER, OPERATOR = "insurer", "manufacturer", "operator"
"""Roles that are given to a client or an account: the first two as `insurer=Organization/7`."""

_WATCHED = ("CareTeam", "Coverage", "PractitionerRole", "Consent")
_BEHIND_ALL = 2**62
_PAGE = 1_000
_MOST_KEPT = 2_000
_UNKNOWN = ResourceKey("", "")
_EVERYONE = Circle(None)
_SEARCHED_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A circle, what it was drawn from, and until when it holds (microseconds)."""

    circle: Circle
    asker: Asker
    sources: frozenset[ResourceKey]
    until: int


class Circles:
    """One a process and store; safe from any thread.

    `defaults` say by purpose whether data may be used where no consent decides; a purpose
    that is not among them may not.
    """

    def __init__(
        self,
        outbox: Outbox,
        parameters: SearchParameters,
        index: Callable[[Resource], IndexEntries],
        now: Callable[[], datetime],
        time_zone: str,
        defaults: Mapping[str, bool],
    ) -> None:
        self._outbox = outbox
        self._parameters = parameters
        self._index = index
        self._now = now
        self._zone = date_range.load_zone(time_zone)
        self._defaults = defaults
        self._consents = ConsentBook(outbox, parameters, self._zone)
        self._drawn: dict[tuple[object, ...], _Drawn] = {}
        self._sequence: int | None = None
        self._lock = Lock()

    def of_context(self, principal: Principal, context: str) -> Circle:
        """The circle that scopes of a SMART context are about.

        Raises:
            StoreUnavailable: what it depends on cannot be read.
            TooCostly: it would have to name too many patients.
        """
        own = _own(principal, context)
        if own is not None:
            return own
        launched = principal.patient if context == "patient" else None
        name = (context, principal.fhir_user, principal.purposes, principal.roles, launched)
        with self._lock:
            self._catch_up()
            moment = date_range.from_datetime(self._now())
            drawn = self._drawn.get(name)
            if drawn is None or drawn.until <= moment:
                if len(self._drawn) >= _MOST_KEPT:
                    self._drawn.clear()
                drawn = self._drawn[name] = self._draw(principal, context)
            return drawn.circle

    def _catch_up(self) -> None:
        if self._sequence is None:
            # Asked before: what is written while it loads is met again behind it.
            newest, _ = self._outbox.changes(_BEHIND_ALL, _WATCHED)
            self._consents.load()
            self._sequence = newest
            return
        newest, changed = self._outbox.changes(self._sequence, _WATCHED)
        for version in changed:
            if version.key.resource_type == "Consent":
                for patient in tuple(self._consents.apply(version)):
                    self._rule_again(patient)
            else:
                self._forget(version)
        self._sequence = max(self._sequence, newest)

    def _forget(self, version: Version) -> None:
        """Let go of what was drawn from an earlier state of a relation, or should be from this."""
        named: set[str] = set()
        if version.body is not None:
            references = self._index(version.resource()).references
            named = {f"{each.resource_type}/{each.resource_id}" for each in references}
        for name, drawn in tuple(self._drawn.items()):
            if version.key in drawn.sources or not drawn.asker.names.isdisjoint(named):
                del self._drawn[name]

    def _rule_again(self, patient: str) -> None:
        moment = date_range.from_datetime(self._now())
        for name, drawn in tuple(self._drawn.items()):
            circle = drawn.circle
            if circle.patients is not None and patient not in circle.patients:
                continue
            rulings = {key: ruling for key, ruling in circle.rulings.items() if key != patient}
            terms = self._consents.of_patient(patient)
            if terms:
                rulings[patient] = self._rule(terms, drawn.asker, circle.default)
            until = min((drawn.until, *_later(terms, moment)))
            self._drawn[name] = replace(drawn, circle=replace(circle, rulings=rulings), until=until)

    def _draw(self, principal: Principal, context: str) -> _Drawn:
        moment = date_range.from_datetime(self._now())
        names = {str(principal.fhir_user)} if principal.fhir_user else set()
        sources: set[ResourceKey] = set()
        patients: set[str] | None = None
        ends: list[int] = []
        purpose = TREATMENT
        if context != "system":
            assert principal.fhir_user is not None
            for role in self._roles_of(principal.fhir_user):
                sources.add(role.key)
                names.update(_references(role.resource(), "practitioner", "organization"))
                names.add(str(role.key))
            found = self._referring("CareTeam", "participant", names, "active")
            patients, ends = self._patients(found, "subject", sources, moment)
            names.update(str(version.key) for version in found)
            if context == "patient":
                patients.intersection_update({_id_of(principal.patient)})
        elif (insurer := _organization(principal, INSURER)) is not None:
            purpose = PAYMENT
            names = {str(insurer)}
            found = self._referring("Coverage", "payor", names, "active")
            patients, ends = self._patients(found, "beneficiary", sources, moment)
        asker = Asker(frozenset(names), principal.purposes or (purpose,))
        default = all(self._defaults.get(each, False) for each in asker.purposes)
        if patients is not None and len(patients) > MOST_PATIENTS:
            raise TooCostly(f"more than {MOST_PATIENTS} patients are within reach")
        rulings: dict[str, Ruling] = {}
        for patient in self._consents.patients if patients is None else patients:
            terms = self._consents.of_patient(patient)
            if terms:
                rulings[patient] = self._rule(terms, asker, default)
                ends += _later(terms, moment)
        circle = Circle(None if patients is None else frozenset(patients), default, rulings)
        until = min(ends, default=date_range.LATEST)
        return _Drawn(circle, asker, frozenset(sources), until)

    def _rule(self, terms: Iterable[Terms], asker: Asker, default: bool) -> Ruling:
        return consent.rule(terms, asker, self._now(), default)

    def _roles_of(self, user: ResourceKey) -> list[Version]:
        """The PractitionerRoles that a user is, or has."""
        if user.resource_type == "PractitionerRole":
            version = self._outbox.read(user)
            return [] if version is None or version.is_deletion else [version]
        return self._referring("PractitionerRole", "practitioner", (str(user),), None)

    def _patients(
        self, found: Iterable[Version], element: str, sources: set[ResourceKey], moment: int
    ) -> tuple[set[str], list[int]]:
        """Whose relations hold now, and the moments at which some begin or cease to."""
        patients: set[str] = set()
        ends: list[int] = []
        for version in found:
            sources.add(version.key)
            resource = version.resource()
            span = consent.span(resource.get("period"), self._zone)
            if span is None:
                continue
            ends += (bound for bound in span if bound > moment)
            if span.start <= moment < span.end:
                patients.update(
                    text.removeprefix("Patient/")
                    for text in _references(resource, element)
                    if text.startswith("Patient/")
                )
        return patients, ends

    def _referring(
        self, resource_type: str, code: str, names: Iterable[str], status: str | None
    ) -> list[Version]:
        """What refers to one of `names`, and is of that status where it must be."""
        parameter = self._parameters.get(resource_type, code)
        state = self._parameters.get(resource_type, "status" if status else "active")
        keys = [ResourceKey(*name.split("/", 1)) for name in sorted(names)]
        if parameter is None or state is None or not keys:
            return []
        is_live = (
            Clause(state, "", (TokenValue(None, status),))
            if status
            else Clause(state, "not", (TokenValue(None, "false"),))
        )
        found: dict[ResourceKey, Version] = {}
        for start in range(0, len(keys), _SEARCHED_AT_ONCE):
            values = tuple(ReferenceValue(*key) for key in keys[start : start + _SEARCHED_AT_ONCE])
            query = Query(resource_type, (Clause(parameter, "", values), is_live), count=_PAGE)
            for version in _all(self._outbox, query):
                found[version.key] = version
                if len(found) > MOST_PATIENTS:
                    raise TooCostly(f"more than {MOST_PATIENTS} patients are within reach")
        return list(found.values())


def needs_drawing(principal: Principal) -> bool:
    """Whether what is stored decides about one of its circles."""
    return any(_own(principal, scope.context) is None for scope in principal.scopes)


def _own(principal: Principal, context: str) -> Circle | None:
    """The circle that the credentials themselves say; None: it has to be drawn."""
    user = principal.fhir_user
    is_staff = user is not None and user.resource_type in ("Practitioner", "PractitionerRole")
    if context == "patient":
        if principal.kind == "user" and is_staff:
            # An app was started for one patient: of them, what its user may see.
            return None
        return _of_patient(principal.patient, is_own=principal.kind == "patient")
    if context == "user":
        if user is not None and user.resource_type == "Patient":
            return _of_patient(user, is_own=True)
        if OPERATOR in principal.roles:
            return _EVERYONE
        return None if is_staff and principal.kind == "user" else NOBODY
    if context != "system" or principal.kind != "system":
        return NOBODY
    organizations = [_organization(principal, each) for each in (MANUFACTURER, INSURER)]
    match organizations:
        case None, None:
            return None
        case ResourceKey("Organization") as maker, None:
            return _owned_by(maker)
        case None, ResourceKey("Organization"):
            return None
    # Of both kinds, or of one that was not understood: it was meant to be less than everyone's.
    return NOBODY


def _organization(principal: Principal, role: str) -> ResourceKey | None:
    """Whose a role is: for `insurer=Organization/7` the Organization; None without the role."""
    for each in principal.roles:
        name, _, text = each.partition("=")
        if name == role:
            found = reference.parse(text)
            return ResourceKey(found.resource_type, found.resource_id) if found else _UNKNOWN
    return None


@lru_cache(maxsize=1_000)
def _owned_by(key: ResourceKey) -> Circle:
    return Circle(None, owner=key)


@lru_cache(maxsize=10_000)
def _of_patient(key: ResourceKey | None, *, is_own: bool) -> Circle:
    # The same object each time: what was made of it is found again.
    if key is None or key.resource_type != "Patient":
        return NOBODY
    return Circle(frozenset((key.resource_id,)), is_own=is_own)


def _id_of(patient: ResourceKey | None) -> str:
    return patient.resource_id if patient and patient.resource_type == "Patient" else ""


def _later(terms: Iterable[Terms], moment: int) -> Iterator[int]:
    for each in terms:
        yield from (bound for bound in consent.boundaries(each.provision) if bound > moment)


def _references(resource: Resource, *elements: str) -> Iterator[str]:
    for element in elements:
        value = resource.get(element)
        if isinstance(value, dict) and isinstance(value.get("reference"), str):
            yield value["reference"]


def _all(outbox: Outbox, query: Query) -> Iterator[Version]:
    while True:
        page = outbox.search(query)
        yield from page.versions
        if page.next is None:
            return
        query = query._replace(after=page.next, as_of=page.as_of)
