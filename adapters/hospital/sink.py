"""A hospital's FHIR server as a sink: what is here is there, by identifier."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from adapters.hospital.client import HospitalClient
from adapters.hospital.translate import TYPES, outward, references, taken_back, token_of
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version
from fhir_server.core.whom import patient_of
from fhir_server.errors import DeliveryDeferred
from fhir_server.outbox.receiver import read_receiver
from fhir_server.outbox.section import Section
from fhir_server.outbox.sink import DELIVERY_SECONDS, Access, Records

NAME = "hospital"

RESOURCE_SYSTEM = "https://pmp.example/fhir/NamingSystem/resource"
_DEPTH = 4


class Rules(NamedTuple):
    """`types` are sent when they change; what they refer to is made there if it is not."""

    types: frozenset[str]
    system: str
    # The longest that one request takes; none is begun that could outlast the lease.
    longest: float


class HospitalSink:
    """Sends each version of the chosen types, the versions of a patient together."""

    def __init__(
        self, name: str, client: HospitalClient, records: Records, rules: Rules, batch_size: int
    ) -> None:
        self._name = name
        self._client = client
        self._records = records
        self._rules = rules
        self._batch_size = batch_size

    @property
    def name(self) -> str:
        return self._name

    @property
    def batch_size(self) -> int:
        return self._batch_size

    def group(self, version: Version) -> str | None:
        if version.key.resource_type not in self._rules.types:
            return None
        resource = self._content(version)
        if resource is None:
            return None
        return patient_of(resource) or str(version.key)

    def deliver(self, versions: Sequence[Version], idempotency_key: str) -> str:
        """Upserts, so that nothing is doubled when it is sent again; the receipt names them."""
        until = time.monotonic() + DELIVERY_SECONDS - self._rules.longest
        names = []
        # Of one resource the last one counts: those before were never seen there.
        for version in {version.key: version for version in versions}.values():
            resource = self._content(version)
            if resource is not None:
                names.append(self._put(resource, until))
        return " ".join(names) or "nothing to tell"

    def close(self) -> None:
        self._client.close()

    def _put(self, resource: Resource, until: float) -> str:
        token = token_of(resource, self._rules.system)
        there = self._around(resource, until, _DEPTH)
        _check_time(until)
        return self._client.put(outward(resource, token, there.get), token)

    def _around(self, resource: Resource, until: float, depth: int) -> dict[ResourceKey, str]:
        """What the other side calls each resource that this one refers to."""
        names: dict[ResourceKey, str] = {}
        for key in references(resource) if depth else ():
            version = self._records.read(key)
            if key.resource_type not in TYPES or version is None or version.body is None:
                continue
            target = version.resource()
            token = token_of(target, self._rules.system)
            known = self._client.known(key.resource_type, token)
            if known is None:
                around = self._around(target, until, depth - 1)
                _check_time(until)
                known = self._client.ensure(outward(target, token, around.get), token)
            names[key] = known
        return names

    def _content(self, version: Version) -> Resource | None:
        if version.body is not None:
            return version.resource()
        before = self._records.read(version.key, version.version_id - 1)
        if before is None or before.body is None:
            return None
        return taken_back(before.resource())


def _check_time(until: float) -> None:
    if time.monotonic() > until:
        raise DeliveryDeferred("the hospital is slow: the rest is sent later")


def from_settings(section: Mapping[str, Any], access: Access) -> HospitalSink:
    """The sink that `[adapters.hospital]` describes.

    Keys beside those of `read_receiver`: `types`, `name`, `identifier_system`, `batch_size`.

    Raises:
        ValueError: a key that is missing, unknown or of the wrong kind, or a URL that
            deliveries may not go to.
    """
    fields = Section(NAME, section)
    receiver = read_receiver("the hospital", fields, access)
    types = fields.texts("types", ("Observation",))
    if not types or not TYPES.issuperset(types):
        raise fields.wrong("types", f"some of {', '.join(sorted(TYPES))}")
    rules = Rules(
        frozenset(types),
        fields.text("identifier_system", RESOURCE_SYSTEM),
        min(receiver.longest, DELIVERY_SECONDS / 2),
    )
    name, batch_size = fields.text("name", NAME), fields.count("batch_size", 25)
    fields.check_all_known()
    return HospitalSink(name, HospitalClient(receiver), access.records, rules, batch_size)
