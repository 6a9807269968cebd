"""What a document rests on, read from the store: plan, people, goals, diagnoses, readings.

Read in short decisions one page at a time, so that a month of a glucose sensor holds up no
commit of others.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from adapters.national_registry.documents.content import Kind
from adapters.national_registry.port import Surroundings, Transaction
from fhir_server.core import reference
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.parse import parse_criteria
from fhir_server.core.search.query import Cursor, Query
from fhir_server.errors import DeliveryRejected

_PAGE = 500
_MOST_DEVICES = 50


class Facts(NamedTuple):
    """`practitioner` is None where the plan names no author; `readings` are a protocol's."""

    plan: Resource
    patient: Resource
    practitioner: Resource | None
    goals: tuple[Resource, ...]
    conditions: tuple[Resource, ...]
    devices: tuple[Resource, ...]
    readings: tuple[Resource, ...]


def gather(
    around: Surroundings, plan_key: ResourceKey, kind: Kind, period: tuple[date, date | None]
) -> Facts:
    """
    Raises:
        DeliveryRejected: a part that no document can do without is not here.
    """

    def decide(tx: Transaction) -> Facts:
        plan = _read(tx, plan_key)
        if plan is None:
            raise DeliveryRejected(f"{plan_key} is not there any more")
        patient = _read(tx, _key(plan.get("subject")))
        if patient is None or patient["resourceType"] != "Patient":
            raise DeliveryRejected(f"{plan_key}: CarePlan.subject is no Patient that is here")
        return Facts(
            plan,
            patient,
            _practitioner(tx, plan_key, plan),
            _read_all(tx, _goals(plan)),
            _read_all(tx, plan.get("addresses") or ()),
            (),
            (),
        )

    facts = around.commit(decide)
    subject = f"Patient/{facts.patient['id']}"
    if kind is Kind.REFERRAL:
        uses = _search(around, "DeviceUseStatement", (("subject", subject),))
        devices = _devices(around, uses)
        return facts._replace(devices=devices)
    first, last = period
    criteria = [("subject", subject), ("date", f"ge{first.isoformat()}")]
    if last is not None:
        criteria.append(("date", f"lt{(last + timedelta(days=1)).isoformat()}"))
    readings = tuple(_search(around, "Observation", criteria))
    return facts._replace(readings=readings, devices=_devices(around, readings))


def search(
    around: Surroundings, resource_type: str, criteria: Sequence[tuple[str, str]], count: int
) -> Query:
    """The query of `criteria`; one that the server does not know is a fault of ours."""
    parsed = parse_criteria(
        resource_type,
        tuple(criteria),
        around.parameters,
        base_url="",
        time_zone=around.time_zone,
        now=around.now(),
    )
    return Query(resource_type, parsed, count=count)


def _search(
    around: Surroundings, resource_type: str, criteria: Sequence[tuple[str, str]]
) -> Iterator[Resource]:
    query = search(around, resource_type, criteria, _PAGE)
    after: Cursor | None = None
    while True:
        asked = query._replace(after=after)
        page = around.commit(lambda tx, asked=asked: tx.search(asked))  # type: ignore[misc]
        yield from (version.resource() for version in page.versions if not version.is_deletion)
        after = page.next
        if after is None:
            return
        # All pages belong to one moment.
        query = query._replace(as_of=page.as_of)


def _practitioner(tx: Transaction, plan_key: ResourceKey, plan: Resource) -> Resource | None:
    author = plan.get("author") or next(iter(plan.get("contributor") or ()), None)
    if author is None:
        return None
    key = _key(author)
    if key is not None and key.resource_type == "PractitionerRole":
        role = _read(tx, key) or {}
        key = _key(role.get("practitioner"))
    if key is None and "identifier" in author:
        identifier = (author["identifier"].get("system"), str(author["identifier"].get("value")))
        found = tx.find("Practitioner", (identifier,)).get(identifier, ())
        key = found[0] if len(found) == 1 else None
    practitioner = None if key is None or key.resource_type != "Practitioner" else _read(tx, key)
    if practitioner is None:
        raise DeliveryRejected(f"{plan_key}: CarePlan.author is no Practitioner that is here")
    return practitioner


def _goals(plan: Resource) -> list[Any]:
    activities = (each.get("detail") or {} for each in plan.get("activity") or ())
    return [
        *(plan.get("goal") or ()),
        *(goal for each in activities for goal in each.get("goal") or ()),
    ]


def _devices(around: Surroundings, holders: Iterable[Resource]) -> tuple[Resource, ...]:
    keys = {key for holder in holders if (key := _key(holder.get("device"))) is not None}
    found = []
    for key in sorted(keys)[:_MOST_DEVICES]:
        version = around.read(key)
        if key.resource_type == "Device" and version is not None and not version.is_deletion:
            found.append(version.resource())
    return tuple(found)


def _read_all(tx: Transaction, references: Iterable[Any]) -> tuple[Resource, ...]:
    keys = dict.fromkeys(key for each in references if (key := _key(each)) is not None)
    return tuple(found for key in keys if (found := _read(tx, key)) is not None)


def _read(tx: Transaction, key: ResourceKey | None) -> Resource | None:
    version = None if key is None else tx.read(key)
    return None if version is None or version.is_deletion else version.resource()


def _key(value: Any) -> ResourceKey | None:
    parsed = reference.parse(str((value or {}).get("reference", "")))
    if parsed is None or not parsed.is_local:
        return None
    return ResourceKey(parsed.resource_type, parsed.resource_id)
