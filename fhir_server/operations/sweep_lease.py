"""The lease of the sweep: one process at a time looks for missed measurements.

It is a Basic resource, so both stores keep it and a restart finds it: who holds the lease
until when, and up to when everything was looked at. It is renewed every few minutes, not
with each look: what is looked at twice is found once (ADR 0022).
"""

from datetime import datetime, timedelta

from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import format_instant, next_version
from fhir_server.store.protocol import Decision, Transaction

KEY = ResourceKey("Basic", "missed-measurements")
_UPKEEP = "https://pmp.example/fhir/CodeSystem/upkeep"
_EXTENSION = "https://pmp.example/fhir/StructureDefinition/"
_HOLDER, _UNTIL, _SWEPT = "lease-holder", "lease-until", "swept-until"


def claim(owner: str, length: timedelta, swept: datetime | None) -> Decision[datetime | None]:
    """Take the lease, or renew it; up to when was looked, None if another process holds it.

    `swept` is how far the holder has come; None of one who begins. What is before the first
    claim of a store was never looked at, and is not.
    """

    def decide(tx: Transaction) -> datetime | None:
        current = tx.read(KEY)
        known = {}
        if current is not None and not current.is_deletion:
            known = _parse(current.resource())
        holder, until = known.get(_HOLDER), known.get(_UNTIL)
        if holder != owner and until is not None and datetime.fromisoformat(until) > tx.now:
            return None
        before = known.get(_SWEPT)
        reached = tx.now if before is None else datetime.fromisoformat(before)
        if swept is not None and holder == owner:
            reached = max(reached, swept)
        told = {
            _HOLDER: {"valueString": owner},
            _UNTIL: {"valueInstant": format_instant(tx.now + length)},
            _SWEPT: {"valueInstant": format_instant(reached)},
        }
        resource: Resource = {
            "resourceType": "Basic",
            "extension": [{"url": _EXTENSION + name, **value} for name, value in told.items()],
            "code": {"coding": [{"system": _UPKEEP, "code": "missed-measurements"}]},
        }
        tx.put(*next_version(current, KEY, resource, tx.now))
        return reached

    return decide


def _parse(basic: Resource) -> dict[str, str]:
    found = {}
    for extension in basic.get("extension", ()):
        name = str(extension.get("url", "")).removeprefix(_EXTENSION)
        if value := extension.get("valueInstant") or extension.get("valueString"):
            found[name] = str(value)
    return found
