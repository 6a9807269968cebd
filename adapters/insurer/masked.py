"""What an insurer reads under a policy of de-identification: pseudonyms in place of policies."""

from collections.abc import Iterable, Iterator
from typing import Any

from adapters.insurer.translate import outward
from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.errors import DeliveryWithheld
from fhir_server.outbox.mask import NOTHING_LEFT, PSEUDONYM_SYSTEM, Mask

_MADE = "made"


class MaskedBundle:
    """Entries about one patient, who is known by a pseudonym."""

    def __init__(self, mask: Mask, patient: str) -> None:
        key = ResourceKey("Patient", patient.partition("/")[2])
        self._mask = mask
        self._patient = patient
        self._pseudonym = mask.key(key).resource_id

    def entries(self, made: Resource, resources: Iterable[Resource]) -> list[Resource]:
        """`made` (a report, or news) and those of `resources` of which the policy leaves something.

        Raises:
            DeliveryWithheld: nothing is left at all.
        """
        # The policy reads whose it is, and by how much its dates move.
        whole = {**made, "id": _MADE, "subject": {"reference": self._patient}}
        told = [*self._of(whole, made["identifier"]), *self._each(resources)]
        if not told:
            raise DeliveryWithheld(NOTHING_LEFT)
        return told

    def _each(self, resources: Iterable[Resource]) -> Iterator[Resource]:
        for resource in resources:
            yield from self._of(resource, None)

    def _of(self, resource: Resource, identifier: Any) -> Iterator[Resource]:
        given = self._mask.resource(resource)
        if given is None:
            return
        if identifier is not None:
            # Made of the patient and the period: whoever knows the one could try the others.
            text = resource_json.format({"identifier": identifier}).decode()
            said = {"system": identifier[0]["system"], "value": self._mask.digest(text)[:40]}
            given["identifier"] = [said]
        subject = {
            "type": "Patient",
            "identifier": {"system": PSEUDONYM_SYSTEM, "value": self._pseudonym},
        }
        yield {**outward(given, subject), "meta": given["meta"]}
