"""An insurer as a sink: what Coverage and Consent let go, decided when it is sent."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from adapters.insurer.aggregate import Facts, Period, local_day, report
from adapters.insurer.answer import Answering
from adapters.insurer.client import InsurerClient
from adapters.insurer.insured import Insured, coverages
from adapters.insurer.masked import MaskedBundle
from adapters.insurer.policy import (
    NO_COVERAGE,
    Asked,
    Level,
    Party,
    is_covered,
    permitted,
    refusal,
)
from adapters.insurer.request import is_request
from adapters.insurer.translate import bundle, news, outward, subject_of
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version
from fhir_server.core.whom import patient_of
from fhir_server.errors import DeliveryRejected, DeliveryWithheld
from fhir_server.outbox.receiver import read_receiver
from fhir_server.outbox.section import Section
from fhir_server.outbox.sink import Access

NAME = "insurer"

POLICY_SYSTEM = "https://fhir.ru/ig/core/systems/oms"
_REQUEST = "request/"
NOT_ANSWERED = "de-identified data are sent, and not given as an answer"
_MOST_CONSENTS = 500
_PURPOSES = ("HPAYMT", "COVERAGE", "PAYMENT")


class Rules(NamedTuple):
    """`identifier` is the insurer's own (system, value); `patient_systems` those it knows."""

    identifier: tuple[str, str]
    purposes: frozenset[str]
    period: str
    is_id_only: bool
    patient_systems: tuple[str, ...]
    zone: ZoneInfo


class Standing(NamedTuple):
    """What holds for a patient at this moment: read anew for every delivery."""

    asked: Asked
    is_covered: bool
    coverages: tuple[Resource, ...]
    consents: tuple[Resource, ...]


class InsurerSink:
    """Sends a patient's month as a whole, and answers the Tasks of the insurer."""

    def __init__(
        self, name: str, client: InsurerClient, access: Access, rules: Rules, batch_size: int
    ) -> None:
        self._name = name
        self._client = client
        self._access = access
        self._records = access.records
        self._rules = rules
        self._batch_size = batch_size
        self._insured = Insured(self._records, self.party)
        self._answering = Answering(access, rules.zone, name)

    @property
    def name(self) -> str:
        return self._name

    @property
    def batch_size(self) -> int:
        return self._batch_size

    def group(self, version: Version) -> str | None:
        """The patient's period; a Task that asks stands alone."""
        if version.key.resource_type == "Task" and version.body is not None:
            party = self._insured.party(version.sequence)
            is_ours = is_request(version.resource(), party)
            return f"{_REQUEST}{version.key}" if is_ours else None
        if version.key.resource_type != "Observation":
            return None
        observation = self._content(version)
        patient = patient_of(observation) if observation else ""
        day = local_day(observation, self._rules.zone) if observation else None
        if not patient or day is None:
            return None
        if not self._insured.is_insured(patient, version.sequence):
            return None
        return f"{patient}/{Period.of(day, self._rules.period)}"

    def deliver(self, versions: Sequence[Version], idempotency_key: str) -> str:
        if versions[0].key.resource_type == "Task":
            return self._answer(versions)
        contents = {each.sequence: self._content(each) for each in versions}
        found = [each for each in contents.values() if each is not None]
        if not found:
            return "nothing to tell"
        patient, day = patient_of(found[-1]), local_day(found[-1], self._rules.zone)
        if day is None:
            raise DeliveryRejected("the Observation does not say when it was")
        standing = self.standing(patient)
        levels = self._decide(contents, standing)
        period = Period.of(day, self._rules.period)
        return self._send(patient, period, found, levels, standing, idempotency_key)

    def close(self) -> None:
        self._client.close()

    def party(self) -> Party:
        """The insurer: its identifier, and its Organizations here that have it."""
        system, value = self._rules.identifier
        named = self._records.search("Organization", [("identifier", f"{system}|{value}")], 100)
        references = frozenset(f"Organization/{each['id']}" for each in named)
        return Party(references, frozenset({self._rules.identifier}))

    def standing(self, patient: str) -> Standing:
        """Who may have what of `patient` now, from the store and from nowhere else."""
        asked = Asked(self.party(), self._rules.purposes, self._access.now(), self._rules.zone)
        found = tuple(coverages(self._records, patient))
        consents = self._records.search("Consent", [("patient", patient)], _MOST_CONSENTS + 1)
        held = tuple(consents)
        if len(held) > _MOST_CONSENTS:
            # One that was not looked at may be the one that denies.
            raise DeliveryWithheld("there are more consents than can be looked at")
        return Standing(asked, is_covered(found, asked), found, held)

    def _decide(
        self, contents: Mapping[int, Resource | None], standing: Standing
    ) -> Mapping[int, Level]:
        """The level of each version.

        Raises:
            DeliveryWithheld: some of them, or all, may not go.
        """
        if not standing.is_covered:
            raise DeliveryWithheld(NO_COVERAGE)
        levels: dict[int, Level] = {}
        withheld: dict[str, set[int]] = {}
        for sequence, resource in contents.items():
            if resource is None:
                continue
            levels[sequence] = permitted(resource, standing.consents, standing.asked)
            if levels[sequence] is Level.NOTHING:
                reason = refusal(resource, standing.consents, standing.asked)
                withheld.setdefault(reason, set()).add(sequence)
        for reason, sequences in withheld.items():
            raise DeliveryWithheld(reason, sequences)
        return levels

    def _send(
        self,
        patient: str,
        period: Period,
        found: Sequence[Resource],
        levels: Mapping[int, Level],
        standing: Standing,
        idempotency_key: str,
    ) -> str:
        version = self._records.read(ResourceKey("Patient", patient.partition("/")[2]))
        if version is None or version.body is None:
            raise DeliveryRejected("the Observation's subject is no Patient that is here")
        rules = self._rules
        mask = self._access.mask
        subject = (
            {"reference": patient}
            if mask is not None
            else subject_of(version.resource(), standing.coverages, rules.patient_systems)
        )
        name = f"{self._name}/{patient}"
        if rules.is_id_only:
            made = news(name, period, subject, self._access.base_url)
        else:
            facts = self.facts(patient, period, standing)
            made = report(facts, subject, name, period, self._access.now(), rules.zone)
        levelled = zip(found, levels.values(), strict=True)
        named = [each for each, level in levelled if level is Level.RESOURCE]
        if mask is not None:
            entries = MaskedBundle(mask, patient).entries(made, named)
        else:
            entries = [made, *(outward(each, subject) for each in named)]
        return self._client.transact(bundle(entries), idempotency_key)

    def facts(self, patient: str, period: Period, standing: Standing) -> Facts:
        """What a report may be made from: nothing that a Consent denies is counted."""
        return self._answering.facts(patient, period.criteria(), standing)

    def _answer(self, versions: Sequence[Version]) -> str:
        (task,) = versions[-1:]
        if self._access.mask is not None:
            # The answer would be written here, beside its source.
            return self._answering.refuse(task, NOT_ANSWERED)
        return self._answering.answer(task, self.standing)

    def _content(self, version: Version) -> Resource | None:
        """What a version says; of a deletion what was there, as an error."""
        if version.body is not None:
            return version.resource()
        before = self._records.read(version.key, version.version_id - 1)
        if before is None or before.body is None:
            return None
        return {**before.resource(), "status": "entered-in-error"}


def from_settings(section: Mapping[str, Any], access: Access) -> InsurerSink:
    """The sink that `[adapters.insurer]` describes.

    Keys beside those of `read_receiver`: `identifier` ("system|value" of the insurer),
    `name`, `purposes`, `period`, `send`, `patient_systems`, `batch_size`.

    Raises:
        ValueError: a key that is missing, unknown or of the wrong kind, or a URL that
            deliveries may not go to.
    """
    fields = Section(NAME, section)
    receiver = read_receiver("the insurer", fields, access)
    system, bar, value = fields.text("identifier").partition("|")
    if not bar or not value:
        raise fields.wrong("identifier", "system|value")
    rules = Rules(
        identifier=(system, value),
        purposes=frozenset(fields.texts("purposes", _PURPOSES)),
        period=fields.choice("period", ("month", "day"), "month"),
        is_id_only=fields.choice("send", ("aggregates", "id-only"), "aggregates") == "id-only",
        patient_systems=fields.texts("patient_systems", (POLICY_SYSTEM,)),
        zone=ZoneInfo(access.time_zone),
    )
    name, batch_size = fields.text("name", NAME), fields.count("batch_size", 500)
    fields.check_all_known()
    return InsurerSink(name, InsurerClient(receiver), access, rules, batch_size)
