"""The consents that are in force, by patient: read once, then kept by what is written."""

from collections.abc import Collection, Iterator
from datetime import tzinfo
from functools import lru_cache

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.query import Clause, Query, TokenValue
from fhir_server.core.security import consent
from fhir_server.core.security.consent import Provision, Terms
from fhir_server.core.version import Version
from fhir_server.errors import TooCostly
from fhir_server.store.protocol import Outbox

MOST_CONSENTS = 500_000
"""Some hundred megabytes of them: more are not kept by one process."""

_PAGE = 1_000


class ConsentBook:
    """One thread at a time; it knows nothing before `load`."""

    def __init__(self, outbox: Outbox, parameters: SearchParameters, zone: tzinfo) -> None:
        self._outbox = outbox
        self._parameters = parameters
        self._zone = zone
        self._by_patient: dict[str, tuple[Terms, ...]] = {}
        self._patient_of: dict[ResourceKey, str] = {}

    @property
    def patients(self) -> Collection[str]:
        """Those who have one."""
        return self._by_patient.keys()

    def of_patient(self, patient: str) -> tuple[Terms, ...]:
        return self._by_patient.get(patient, ())

    def load(self) -> None:
        """Read all that are active.

        Raises:
            TooCostly: there are too many.
        """
        # What an attempt that failed has left may be out of date.
        self._by_patient.clear()
        self._patient_of.clear()
        status = self._parameters.get("Consent", "status")
        if status is None:
            raise LookupError("no search parameter Consent.status")
        query = Query("Consent", (Clause(status, "", (TokenValue(None, "active"),)),), count=_PAGE)
        while True:
            page = self._outbox.search(query)
            for version in page.versions:
                self._add(version)
            if len(self._patient_of) > MOST_CONSENTS:
                raise TooCostly(f"more than {MOST_CONSENTS} consents are in force")
            if page.next is None:
                return
            query = query._replace(after=page.next, as_of=page.as_of)

    def apply(self, version: Version) -> Iterator[str]:
        """Take what was written; the patients whom it concerns, before and now."""
        before = self._patient_of.pop(version.key, None)
        if before is not None:
            others = tuple(t for t in self._by_patient.pop(before) if t.key != version.key)
            if others:
                self._by_patient[before] = others
            yield before
        now = self._add(version)
        if now not in (None, before):
            assert now is not None
            yield now

    def _add(self, version: Version) -> str | None:
        terms = consent.read(version, self._zone)
        if terms is None:
            return None
        # Many say the same about other patients: what they say is kept once.
        terms = terms._replace(provision=_shared(terms.provision))
        others = (t for t in self._by_patient.get(terms.patient, ()) if t.key != terms.key)
        self._by_patient[terms.patient] = (*others, terms)
        self._patient_of[terms.key] = terms.patient
        return terms.patient


@lru_cache(maxsize=4_096)
def _shared(provision: Provision) -> Provision:
    return provision
