"""Acme as a sink: what it wants, with what it is sent together, and when it may not go."""

from collections.abc import Mapping, Sequence
from typing import Any

from acme_adapter.client import AcmeClient
from acme_adapter.translate import group, translate
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version
from fhir_server.core.whom import patient_of
from fhir_server.errors import DeliveryRejected, DeliveryWithheld
from fhir_server.outbox.receiver import read_receiver
from fhir_server.outbox.section import Section
from fhir_server.outbox.sink import Access, Records

POLICY = "https://fhir.ru/ig/core/systems/oms"


class AcmeSink:
    """Tells of measurements; of corrections and deletions Acme wants to know nothing."""

    def __init__(self, client: AcmeClient, records: Records) -> None:
        self._client = client
        self._records = records

    @property
    def name(self) -> str:
        return "acme"

    @property
    def batch_size(self) -> int:
        return 100

    def group(self, version: Version) -> str | None:
        # Called for every version of the store: look at the type before the body.
        if version.key.resource_type != "Observation" or version.version_id != 1:
            return None
        return None if version.body is None else group(version.resource())

    def deliver(self, versions: Sequence[Version], idempotency_key: str) -> str:
        resources = [version.resource() for version in versions]
        patient = self._records.read(ResourceKey("Patient", patient_of(resources[0])[8:]))
        if patient is None or patient.body is None:
            raise DeliveryRejected("the Observation's subject is no Patient that is here")
        body = patient.resource()
        if body.get("active") is False:
            raise DeliveryWithheld("the patient has left the programme")
        for identifier in body.get("identifier") or ():
            if identifier.get("system") == POLICY:
                message = translate(resources, identifier["value"])
                return self._client.tell(message, idempotency_key)
        raise DeliveryRejected("the patient has no policy number")

    def close(self) -> None:
        self._client.close()


def from_settings(section: Mapping[str, Any], access: Access) -> AcmeSink:
    """The sink that `[adapters.acme]` describes; its keys are those of `read_receiver`."""
    fields = Section("acme", section)
    receiver = read_receiver("Acme", fields, access)
    fields.check_all_known()
    return AcmeSink(AcmeClient(receiver), access.records)
