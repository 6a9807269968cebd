"""Answering an insurer's Tasks from the store, as Coverage and Consent have it now."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import NoReturn, Protocol
from zoneinfo import ZoneInfo

from adapters.insurer.aggregate import Facts, Period, report
from adapters.insurer.policy import NO_CONSENT, NO_COVERAGE, Asked, Level, permitted
from adapters.insurer.request import (
    NOT_ONE_PATIENT,
    NOT_UNDERSTOOD,
    ONLY_AGGREGATES,
    TOO_MANY,
    RefusedRequest,
    Request,
    answer_bundle,
    completed,
    read_request,
    rejected,
)
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version
from fhir_server.errors import DeliveryDeferred, DeliveryWithheld, FhirError, InvalidSearch
from fhir_server.outbox.sink import Access

_MOST = 1_000
_MOST_READINGS = 50_000
_MOST_PLANS = 200


class PatientStanding(Protocol):
    """What holds for a patient at this moment."""

    @property
    def asked(self) -> Asked: ...

    @property
    def is_covered(self) -> bool: ...

    @property
    def consents(self) -> Sequence[Resource]: ...


class Answering:
    """One insurer's requests; for one thread at a time."""

    def __init__(self, access: Access, zone: ZoneInfo, sink: str) -> None:
        self._access = access
        self._records = access.records
        self._zone = zone
        self._sink = sink

    def answer(self, request: Version, standing_of: Callable[[str], PatientStanding]) -> str:
        """Write the answer into the Task; what the ledger is to say of it.

        Raises:
            DeliveryWithheld: it was refused, and the Task says why.
            DeliveryDeferred: it could not be looked up now.
        """
        current = self._records.read(request.key)
        if current is None or current.body is None:
            return "the request was deleted"
        if current.version_id != request.version_id:
            return self._answered(current.resource())
        task = request.resource()
        try:
            found = self._find(read_request(task), standing_of)
        except RefusedRequest as refused:
            return self.refuse(request, str(refused))
        bundle = answer_bundle(task, found, self._access.base_url)
        if not self._records.answer(request, [bundle, completed(task, bundle)]):
            raise DeliveryDeferred("the request has changed meanwhile")
        return f"answered with Bundle/{bundle['id']}"

    def refuse(self, request: Version, reason: str) -> NoReturn:
        """Write into the Task that it is not answered.

        Raises:
            DeliveryWithheld: it is written.
            DeliveryDeferred: the Task has changed meanwhile.
        """
        current = self._records.read(request.key)
        is_asked = current is not None and current.version_id == request.version_id
        if is_asked and not self._records.answer(request, [rejected(request.resource(), reason)]):
            raise DeliveryDeferred("the request has changed meanwhile") from None
        raise DeliveryWithheld(reason) from None

    def facts(
        self, patient: str, criteria: Sequence[tuple[str, str]], standing: PatientStanding
    ) -> Facts:
        """What a report of a patient may be made from."""
        readings = self._records.search(
            "Observation", [("subject", patient), *criteria], _MOST_READINGS
        )
        of_patient = [("subject", patient)]
        return Facts(
            [
                each
                for each in readings
                if permitted(each, standing.consents, standing.asked) >= Level.AGGREGATES
            ],
            list(self._records.search("Goal", of_patient, _MOST_PLANS)),
            list(self._records.search("CarePlan", of_patient, _MOST_PLANS)),
        )

    def _answered(self, task: Resource) -> str:
        """What to say of a Task that is not as it was asked any more: perhaps by ourselves."""
        if task.get("status") == "rejected":
            raise DeliveryWithheld(str((task.get("statusReason") or {}).get("text", NO_CONSENT)))
        return f"the request is {task.get('status')}"

    def _find(
        self, request: Request, standing_of: Callable[[str], PatientStanding]
    ) -> list[Resource]:
        patient = str(request.patient)
        version = self._records.read(request.patient)
        if version is None or version.body is None:
            raise RefusedRequest(NOT_ONE_PATIENT)
        standing = standing_of(patient)
        if not standing.is_covered:
            raise RefusedRequest(NO_COVERAGE)
        if request.is_aggregate:
            return [self._report(request, standing)]
        try:
            found = list(self._records.search(request.resource_type, request.params, _MOST + 1))
        except InvalidSearch:
            raise RefusedRequest(NOT_UNDERSTOOD) from None
        except FhirError as error:
            if error.code == "too-costly":
                raise RefusedRequest(TOO_MANY) from None
            raise
        if len(found) > _MOST:
            raise RefusedRequest(TOO_MANY)
        levels = [permitted(each, standing.consents, standing.asked) for each in found]
        if Level.RESOURCE not in levels:
            self._check_any(request, standing, levels)
        return [each for each, level in zip(found, levels, strict=True) if level is Level.RESOURCE]

    def _check_any(
        self, request: Request, standing: PatientStanding, levels: Sequence[Level]
    ) -> None:
        """Refuse where no consent names them: an empty answer would say that there are none."""
        if Level.AGGREGATES in levels:
            raise RefusedRequest(ONLY_AGGREGATES)
        if levels:
            raise RefusedRequest(NO_CONSENT)
        probe = {"resourceType": request.resource_type}
        level = permitted(probe, standing.consents, standing.asked)
        if level is Level.NOTHING:
            raise RefusedRequest(NO_CONSENT)
        if level is Level.AGGREGATES:
            raise RefusedRequest(ONLY_AGGREGATES)

    def _report(self, request: Request, standing: PatientStanding) -> Resource:
        patient = str(request.patient)
        probe = {"resourceType": "Observation"}
        facts = self.facts(patient, _days(request) or self._this_month(), standing)
        is_permitted = permitted(probe, standing.consents, standing.asked) is not Level.NOTHING
        if not is_permitted and not facts.observations:
            raise RefusedRequest(NO_CONSENT)
        period = self._period(request)
        subject = {"reference": patient}
        now = self._access.now()
        return report(facts, subject, f"{self._sink}/{patient}", period, now, self._zone)

    def _this_month(self) -> list[tuple[str, str]]:
        today = self._access.now().astimezone(self._zone).date()
        return Period.of(today, "month").criteria()

    def _period(self, request: Request) -> Period:
        today = self._access.now().astimezone(self._zone).date()
        month = Period.of(today, "month")
        named = {value[:2]: value[2:12] for _, value in request.params}
        try:
            return Period(
                date.fromisoformat(named["ge"]) if "ge" in named else month.first,
                date.fromisoformat(named["le"]) if "le" in named else month.last,
            )
        except ValueError:
            raise RefusedRequest(NOT_UNDERSTOOD) from None


def _days(request: Request) -> list[tuple[str, str]]:
    return [pair for pair in request.params if pair[0] == "date"]
