"""Access: what one request turns out to touch, gathered while it is answered (ADR 0030).

The edge opens one for each request; whoever knows more about the request says so here. It
travels with the task and not through every signature, so no path can forget to hand it on.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from fhir_server.core import query_string
from fhir_server.core.query_string import Params
from fhir_server.core.security import audit_record, audit_sheet
from fhir_server.core.security.principal import ANONYMOUS, Principal
from fhir_server.core.security.touched import patient_of_body, patient_of_version
from fhir_server.core.version import Version
from fhir_server.errors import InvalidSearch
from fhir_server.store.trail import TrailEntry

_MOST_REQUEST_CHARACTERS = 4_000
_MOST_REASON_CHARACTERS = 500
# Of http://terminology.hl7.org/CodeSystem/v3-ActReason.
_BREAK_GLASS = "BTG"
_BY_NAME = ("read", "vread")
_MOST_ASKERS = 1_024


_asking: ContextVar[Callable[[], Principal]] = ContextVar("asking", default=lambda: ANONYMOUS)


class Access:
    """One request, from its arrival to its answer; for one request at a time.

    `find_interaction` says what was asked once that is known.
    `reason` is why somebody breaks the glass, in their words.
    """

    __slots__ = (
        "_address",
        "_attempted",
        "_bodies",
        "_find_interaction",
        "_form",
        "_has_recorded",
        "_method",
        "_path",
        "_query",
        "_read",
        "_reason",
        "_recorded",
        "_request_id",
        "_seen",
        "_who",
    )

    def __init__(
        self,
        method: str,
        path: str,
        query: str,
        *,
        find_interaction: Callable[[], str],
        address: str = "",
        request_id: str = "",
        reason: str = "",
    ) -> None:
        self._who = _asking.get()
        self._reason = reason[:_MOST_REASON_CHARACTERS] if reason else ""
        self._method = method
        self._path = path
        self._query = query
        self._find_interaction = find_interaction
        self._address = address
        self._request_id = request_id
        self._form = ""
        self._seen: list[Version] = []
        self._bodies: Sequence[bytes] = ()
        self._read: list[Version] = []
        self._attempted: Sequence[tuple[str, str]] = ()
        self._recorded: set[str] = set()
        self._has_recorded = False

    def saw(self, versions: Iterable[Version]) -> None:
        """Versions that came out of the store: whose they are is told, not which they are."""
        self._seen += versions

    def saw_bodies(self, bodies: Sequence[bytes]) -> None:
        """The same of what came without its versions: the page of a search, once a request."""
        self._bodies = (*self._bodies, *bodies)

    def read(self, version: Version) -> None:
        """A version that was asked for by its name."""
        self._read.append(version)

    def hid(self, versions: Iterable[Version]) -> None:
        """Of what came out of the store, what is kept from whoever asks: nobody looked at it."""
        left = Counter((version.key, version.version_id) for version in versions)
        for kept in (self._seen, self._read):
            for place in range(len(kept) - 1, -1, -1):
                name = (kept[place].key, kept[place].version_id)
                if left[name]:
                    left[name] -= 1
                    del kept[place]

    def posted(self, params: Params) -> None:
        """The form of a search that was posted."""
        self._form = query_string.format(params)

    def attempted(self, touched: Sequence[tuple[str, str]]) -> None:
        """What a decision would have changed."""
        self._attempted = touched

    def of_commit(self, touched: Sequence[tuple[str, str]]) -> TrailEntry:
        """The record of what a commit changes: `(patient, Type/id/_history/version)` pairs.

        Has no effect: the decision that it is for may run again.
        """
        found: _Found = {}
        for patient, what in touched:
            _add(found, patient, what)
        return self._entry(self._find_interaction(), found, 0)

    def recorded(self, touched: Sequence[tuple[str, str]]) -> None:
        """The record of a commit is durable."""
        self._recorded.update(patient for patient, _ in touched)
        self._has_recorded = True

    def of_answer(self, status: int) -> TrailEntry | None:
        """The record of the whole request; None if its commits have said it all."""
        is_told = self._has_recorded and status < 400
        if is_told and not (self._read or self._seen or self._bodies):
            return None
        interaction = self._find_interaction()
        found: _Found = {}
        for body in self._bodies:
            found.setdefault(patient_of_body(body), [])
        read = self._read
        if self._seen:
            for version in self._seen:
                found.setdefault(patient_of_version(version), [])
            if interaction in _BY_NAME:
                # Whoever may not see everything reads by a search.
                read = [*read, *(v for v in self._seen if f"/{v.key}" in self._path)]
        for version in read:
            (resource_type, resource_id), version_id = version[0], version[1]
            what = f"{resource_type}/{resource_id}/_history/{version_id}"
            _add(found, patient_of_version(version), what)
        if is_told:
            found = {
                patient: what for patient, what in found.items() if patient not in self._recorded
            }
            if not any(found):
                return None
        else:
            for patient, what in self._attempted:
                _add(found, patient, what)
            for patient in self._named():
                found.setdefault(patient, [])
        if len(found) > 1 and not found.get("", True):
            # What is nobody's needs no event of its own beside those of patients.
            del found[""]
        return self._entry(interaction, found, status)

    def _named(self) -> Sequence[str]:
        params: list[tuple[str, str]] = []
        for text in (self._query, self._form):
            if "atient" in text or "subject" in text:
                params += _parse(text)
        if not params and "/Patient" not in self._path:
            return ()
        return audit_record.named_patients(self._path.split("/"), params)

    def _entry(self, interaction: str, found: "_Found", status: int) -> TrailEntry:
        path, query = self._path, self._query
        asked = f"{self._method} {path}?{query}" if query else f"{self._method} {path}"
        if len(asked) > _MOST_REQUEST_CHARACTERS:
            asked = asked[:_MOST_REQUEST_CHARACTERS]
        action = audit_record.action_of(interaction, self._method)
        if len(found) == 1 and not found.get("", True):
            found = {}
        who, user = _written(self._who(), self._address, is_emergency=bool(self._reason))
        patients = tuple([each for each in found if each])
        if user and user not in found:
            patients = (*patients, user)
        touched = list(found.items())
        if status < 400 and not self._form and not self._reason:
            text = audit_sheet.format_line(interaction, action, self._request_id, asked, touched)
        else:
            text = audit_sheet.format_line(
                interaction,
                action,
                self._request_id,
                asked,
                touched,
                audit_record.outcome_of(status),
                status if status >= 400 else 0,
                self._form[:_MOST_REQUEST_CHARACTERS],
                self._reason,
            )
        return TrailEntry(text, patients, who)


_Found = dict[str, list[str]]
"""What was touched of each patient, "" for nobody's."""


def _add(found: _Found, patient: str, what: str) -> None:
    of_patient = found.setdefault(patient, [])
    if what and what not in of_patient:
        of_patient.append(what)


_askers: dict[tuple[int, str, bool], tuple[Principal, bytes, str]] = {}


def _written(principal: Principal, address: str, *, is_emergency: bool) -> tuple[bytes, str]:
    """Who asks as it is written, and the patient that it is, if it is one."""
    name = (id(principal), address, is_emergency)
    known = _askers.get(name)
    # Another may have its number once it is gone.
    if known is None or known[0] is not principal:
        asker = audit_record.asker(principal, (_BREAK_GLASS,) if is_emergency else ())
        user = asker.user if audit_record.is_patient(asker.user) else ""
        if len(_askers) >= _MOST_ASKERS:
            _askers.clear()
        known = _askers[name] = (principal, audit_sheet.format_who(asker, address), user)
    return known[1], known[2]


def _parse(text: str) -> Params:
    try:
        return query_string.parse(text)
    except InvalidSearch:
        # It is answered with that; the record holds it as it came.
        return ()


_current: ContextVar[Access | None] = ContextVar("access", default=None)


def current() -> Access | None:
    """The access that this code runs for; None: nobody's request, or nothing is recorded."""
    return _current.get()


@contextmanager
def unnoted() -> Iterator[None]:
    """Within it this task looks for itself: whoever decides what is shown of it notes that."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def begin(access: Access) -> None:
    """From here on this task, and those that it starts, work for `access`."""
    _current.set(access)


def begin_asking(find_principal: Callable[[], Principal]) -> None:
    """From here on this task, and those that it starts, work for one whom this names."""
    _asking.set(find_principal)


def asking() -> Principal:
    """Who asks, as far as it is known by now."""
    return _asking.get()()
