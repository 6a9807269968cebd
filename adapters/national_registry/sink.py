"""The national registry as a sink: a patient's day in one FHIR transaction."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from adapters.national_registry.client import RegistryClient
from adapters.national_registry.translate import (
    Change,
    Rules,
    group,
    is_wanted,
    needed,
    translate,
)
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version
from fhir_server.outbox.endpoint import OutboundPolicy, check_url
from fhir_server.outbox.session import OutboundSession, Timeouts
from fhir_server.outbox.sink import DELIVERY_SECONDS

NAME = "national-registry"


class Read(Protocol):
    """A version of a resource, by default the current one; blocking."""

    def __call__(self, key: ResourceKey, version_id: int | None = None) -> Version | None: ...


class NationalRegistrySink:
    """Sends what readings became; other Observations are not the registry's business."""

    def __init__(
        self, name: str, client: RegistryClient, read: Read, rules: Rules, batch_size: int
    ) -> None:
        self._name = name
        self._client = client
        self._read = read
        self._rules = rules
        self._batch_size = batch_size

    @property
    def name(self) -> str:
        return self._name

    @property
    def batch_size(self) -> int:
        return self._batch_size

    def group(self, version: Version) -> str | None:
        """The patient's day.

        A state that the registry is not to have is wanted nevertheless when the one
        before it was sent: it has to be taken back.
        """
        if version.key.resource_type != "Observation":
            return None
        for resource in (_body(version), self._before(version)):
            if resource is not None and is_wanted(resource, self._rules):
                return group(resource)
        return None

    def deliver(self, versions: Sequence[Version], idempotency_key: str) -> str:
        changes = [
            Change(version.key, version.version_id, _body(version), self._before(version))
            for version in versions
        ]
        known = {
            key: resource
            for key in sorted(needed(changes))
            if (found := self._read(key)) is not None and (resource := _body(found)) is not None
        }
        bundle = translate(changes, known, self._rules)
        if not bundle["entry"]:
            return "nothing to tell"
        return self._client.transact(bundle, idempotency_key)

    def close(self) -> None:
        self._client.close()

    def _before(self, version: Version) -> Resource | None:
        if version.version_id == 1:
            return None
        previous = self._read(version.key, version.version_id - 1)
        return None if previous is None else _body(previous)


def from_settings(
    section: Mapping[str, Any], *, read: Read, allow_private_endpoints: bool
) -> NationalRegistrySink:
    """The sink that `[adapters.national-registry]` describes.

    Keys: `url` (the registry's FHIR base), `token` (bearer), `ca_file`, `send_auxiliary`,
    `patient_systems`, `batch_size`, `connect_seconds`, `read_seconds`, `total_seconds`.

    Raises:
        ValueError: a key that is missing, unknown or of the wrong kind, or a URL that
            deliveries may not go to.
    """
    fields = _Section(section)
    url = fields.text("url").rstrip("/")
    policy = OutboundPolicy(allow_private=allow_private_endpoints)
    check_url(url, policy)
    timeouts = Timeouts(
        connect=fields.seconds("connect_seconds", 5.0),
        read=fields.seconds("read_seconds", 30.0),
        total=fields.seconds("total_seconds", 45.0),
    )
    rules = Rules(
        is_auxiliary_sent=fields.boolean("send_auxiliary", default=False),
        patient_systems=fields.texts("patient_systems", Rules().patient_systems),
    )
    batch_size = fields.count("batch_size", 100)
    token = fields.text("token", "") or None
    session = OutboundSession(policy, timeouts, ca_file=fields.text("ca_file", "") or None)
    fields.check_all_known()
    return NationalRegistrySink(NAME, RegistryClient(session, url, token), read, rules, batch_size)


class _Section:
    """The section of the settings file, read key by key."""

    def __init__(self, section: Mapping[str, Any]) -> None:
        self._left = dict(section)

    def text(self, name: str, default: str | None = None) -> str:
        value = self._take(name, default)
        if not isinstance(value, str):
            raise _wrong(name, "a text")
        return value

    def texts(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        value = self._take(name, default)
        if not isinstance(value, list | tuple) or not all(isinstance(x, str) for x in value):
            raise _wrong(name, "a list of texts")
        return tuple(value)

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise _wrong(name, "true or false")
        return value

    def count(self, name: str, default: int) -> int:
        value = self._take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _wrong(name, "a number from 1")
        return value

    def seconds(self, name: str, default: float) -> float:
        value = self._take(name, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value <= DELIVERY_SECONDS:
            raise _wrong(name, f"seconds, more than 0 and at most {DELIVERY_SECONDS:g}")
        return float(value)

    def check_all_known(self) -> None:
        if self._left:
            names = ", ".join(sorted(self._left))
            raise ValueError(f"adapters.{NAME} has unknown settings: {names}")

    def _take(self, name: str, default: object) -> Any:
        value = self._left.pop(name, default)
        if value is None:
            raise ValueError(f"adapters.{NAME}.{name} is missing")
        return value


def _wrong(name: str, kind: str) -> ValueError:
    return ValueError(f"adapters.{NAME}.{name} must be {kind}")


def _body(version: Version) -> Resource | None:
    return None if version.is_deletion else version.resource()
