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
from fhir_server.core.security import audit_record
from fhir_server.core.security.audit_record import AuditRecord, Touched
from fhir_server.core.security.principal import ANONYMOUS, Principal
from fhir_server.core.security.touched import patient_of_version
from fhir_server.core.version import Version
from fhir_server.errors import InvalidSearch
from fhir_server.store.trail import TrailEntry

_MOST_REQUEST_CHARACTERS = 4_000
_MOST_REASON_CHARACTERS = 500
# Of http://terminology.hl7.org/CodeSystem/v3-ActReason.
_BREAK_GLASS = "BTG"
_BY_NAME = ("read", "vread")


_asking: ContextVar[Callable[[], Principal]] = ContextVar("asking", default=lambda: ANONYMOUS)


class Access:
    """One request, from its arrival to its answer; for one request at a time.

    `find_interaction` says what was asked once that is known.
    `reason` is why somebody breaks the glass, in their words.
    """

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
        self._reason = reason[:_MOST_REASON_CHARACTERS]
        self._method = method
        self._path = path
        self._query = query
        self._find_interaction = find_interaction
        self._address = address
        self._request_id = request_id
        self._form = ""
        self._seen: list[Version] = []
        self._read: list[Version] = []
        self._attempted: Sequence[tuple[str, str]] = ()
        self._recorded: set[str] = set()
        self._has_recorded = False

    def saw(self, versions: Iterable[Version]) -> None:
        """Versions that came out of the store: whose they are is told, not which they are."""
        self._seen += versions

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
        return self._entry(audit_record.by_patient(touched), 0)

    def recorded(self, touched: Sequence[tuple[str, str]]) -> None:
        """The record of a commit is durable."""
        self._recorded.update(patient for patient, _ in touched)
        self._has_recorded = True

    def of_answer(self, status: int) -> TrailEntry | None:
        """The record of the whole request; None if its commits have said it all."""
        read = self._read
        if self._find_interaction() in _BY_NAME:
            # Whoever may not see everything reads by a search.
            read = [*read, *(v for v in self._seen if f"/{v.key}" in self._path)]
        touched = dict.fromkeys((patient_of_version(version), "") for version in self._seen)
        touched.update(
            dict.fromkeys((patient_of_version(v), f"{v.key}/_history/{v.version_id}") for v in read)
        )
        if status < 400 and self._has_recorded:
            touched = {pair: None for pair in touched if pair[0] not in self._recorded}
            if not any(patient for patient, _ in touched):
                return None
        if status >= 400 or not self._has_recorded:
            touched.update(dict.fromkeys(self._attempted))
            touched.update(dict.fromkeys((patient, "") for patient in self._named()))
        grouped = audit_record.by_patient(touched)
        if len(grouped) > 1:
            # What is nobody's needs no event of its own beside those of patients.
            grouped = tuple(each for each in grouped if each.patient or each.what)
        return self._entry(grouped, status)

    def _named(self) -> list[str]:
        params: list[tuple[str, str]] = []
        for text in (self._query, self._form):
            if "atient" in text or "subject" in text:
                params += _parse(text)
        return audit_record.named_patients(self._path.split("/"), params)

    def _entry(self, touched: tuple[Touched, ...], status: int) -> TrailEntry:
        interaction = self._find_interaction()
        asked = f"{self._method} {self._path}{'?' if self._query else ''}{self._query}"
        record = AuditRecord(
            interaction,
            audit_record.action_of(interaction, self._method),
            audit_record.outcome_of(status),
            status if status >= 400 else 0,
            audit_record.asker(self._who(), (_BREAK_GLASS,) if self._reason else ()),
            self._address,
            self._request_id,
            asked[:_MOST_REQUEST_CHARACTERS],
            self._form[:_MOST_REQUEST_CHARACTERS],
            self._reason,
            () if touched == (Touched(),) else touched,
        )
        return TrailEntry(audit_record.format(record), audit_record.patients(record))


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
