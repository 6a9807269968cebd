"""Every path by which something could tell of another's data, as requests."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.conformance.access_scene import observation

UNIT = "http://unitsofmeasure.org"


class Request(NamedTuple):
    """`route` is the path in the table of routes that it takes, "" for none of FHIR's."""

    method: str
    path: str
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


TYPES = {
    "Patient": "boris", "Observation": "boris-o1", "Condition": "boris-c", "Device": "boris-d",
    "DeviceUseStatement": "boris-u", "CareTeam": "boris-t", "Coverage": "boris-v",
    "Consent": "boris-n", "Goal": "boris-g", "List": "boris-l", "Task": "boris-k",
    "Provenance": "boris-p", "Binary": "boris-b", "Subscription": "boris-s", "Group": "both",
}  # fmt: skip
DELETED, MOVED = "boris-gone", "boris-moved"

_SEARCHES = (
    "Patient?name=petrov",
    "Patient?family:exact=Petrov",
    "Patient?identifier=urn:snils|boris-1",
    "Patient?_id=boris",
    "Patient?_id=anna,boris&_total=accurate",
    "Patient?_id:not=anna&_summary=count",
    "Patient?birthdate=1950&_sort=family&_count=1&_total=accurate",
    "Patient?_filter=family eq \"Petrov\"",
    "Patient?_content=petrov",
    "Patient?_lastUpdated=gt2000&_sort=-_lastUpdated&_count=1",
    "Patient?gender=male&_elements=identifier",
    "Patient?_has:Observation:patient:code=boris",
    "Patient?_has:Observation:patient:value-quantity=gt80",
    "Patient?_has:Observation:performer:_id=boris-o5",
    "Patient?_has:Group:member:_has:Group:member:_id=boris",
    "Patient?_has:List:patient:item.code=boris",
    "Patient?_revinclude=*&_revinclude:iterate=*",
    "Patient?general-practitioner:missing=true&_total=accurate",
    "Observation?patient=boris",
    "Observation?subject=Patient/boris&_summary=count",
    "Observation?patient=anna,boris&_total=accurate&_sort=-value-quantity",
    "Observation?patient.name=petrov",
    "Observation?subject:Patient.identifier=urn:snils|boris-1",
    "Observation?performer:Patient.family=Petrov",
    "Observation?performer=Patient/boris",
    "Observation?has-member.value-quantity=gt90",
    "Observation?has-member:Observation.patient.name=petrov",
    "Observation?has-member=Observation/boris-o1&_include=Observation:has-member",
    "Observation?code=boris",
    "Observation?code:not=pulse&_total=accurate",
    "Observation?code:text=secret",
    "Observation?value-quantity=gt80&_total=accurate",
    f"Observation?code-value-quantity=urn:s|pulse$gt80|{UNIT}|/min",
    "Observation?_id=boris-o1,boris-moved,boris-gone",
    "Observation?device=Device/boris-d",
    "Observation?device.identifier=urn:serial|boris-77",
    "Observation?patient=anna&_include=*&_include:iterate=*&_count=2",
    "Observation?patient=anna&_include=Observation:performer&_include=Observation:device",
    "Observation?_sort=-value-quantity&_count=2&_total=accurate",
    "Observation?_sort=patient,-_id&_count=3",
    "Observation?_sort=_id&_count=200&_total=estimate",
    "Observation?_explain=true",
    "Observation?nothing=x&patient=boris",
    "Condition?recorder=Practitioner/dx",
    "Condition?recorder:Practitioner._has:CareTeam:participant:patient=boris",
    "Practitioner?_has:Condition:recorder:code=boris",
    "Practitioner?_revinclude=CareTeam:participant&_revinclude=Condition:asserter",
    "Organization?_has:Coverage:payor:patient=boris",
    "Organization?_has:Device:organization:identifier=boris-77",
    "Organization?_revinclude=Coverage:payor&_revinclude=Device:organization",
    "Device?identifier=urn:serial|boris-77",
    "Device?_has:DeviceUseStatement:device:patient=boris",
    "Device?_has:Observation:device:patient.name=petrov",
    "Device?_revinclude=Observation:device&_revinclude=DeviceUseStatement:device",
    "DeviceUseStatement?device=Device/boris-d",
    "CareTeam?participant=Practitioner/dx",
    "Coverage?payor=Organization/insurer&_total=accurate&_include=Coverage:beneficiary",
    "Consent?patient=boris",
    "Task?_total=accurate",
    "List?item=Observation/boris-o1",
    "List?item.patient.name=petrov",
    "Provenance?target=Observation/boris-o1&_include=Provenance:target",
    "Provenance?target:Observation.code=boris",
    "Group?member=Patient/boris",
    "Group?_total=accurate",
    "Binary?_total=accurate",
    "Subscription?criteria=Observation?patient=boris",
    "Subscription?_total=accurate",
    "AuditEvent?patient=boris",
    "Nothing?x=y",
    "?_type=Patient,Observation,Device&_sort=_id&_count=5&_total=accurate",
    "?_type=Patient,Practitioner&_content=petrov",
    "?_id=boris",
    "_history?_count=200",
    "_history?_count=1&_sort=_lastUpdated",
    "_history?_since=2000-01-01T00:00:00Z&_count=3",
    "Observation/_history?_count=3",
    "Patient/_history?_at=2100",
    "Patient/boris/*",
    "Patient/boris/*?_total=accurate",
    "Patient/boris/Observation",
    "Patient/anna/*?_count=500",
    "Patient/anna/Observation?has-member.code=pulse",
    "Device/boris-d/Observation",
    "Device/anna-d/Observation?_total=accurate",
    "Practitioner/dx/Condition",
    "Patient/boris/$everything",
    "Patient/anna/$everything?_count=500",
    "Patient/anna/$everything?_type=Observation,Practitioner,Device",
    "Observation/$lastn?patient=boris&category=heart",
    "Observation/$lastn?patient=anna&category=heart&max=5",
    "Observation/$lastn?subject:Patient.name=petrov&category=heart&max=5",
    "Observation/$stats?subject=Patient/boris&code=pulse&system=urn:s&statistic=maximum,count",
    "Observation/$stats?subject=Patient/anna&code=pulse&system=urn:s&statistic=maximum,count&include=true",
    "$meta",
    "Observation/$meta",
    "Subscription/$meta",
    "Observation/boris-o1/$meta",
    "Patient/boris/$cgm-summary",
    "Patient/boris/$cgm-day",
    "Patient/boris/$home-blood-pressure",
    "CarePlan/boris-cp/$adherence",
    "Subscription/$status",
    "Subscription/$status?id=boris-s",
    "Subscription/boris-s/$status",
    "Subscription/boris-s/$events",
    "Subscription/boris-s/$get-ws-binding-token",
    "Observation/boris-o1/$validate",
    "ValueSet/$expand?url=urn:x",
    "CodeSystem/$lookup?system=urn:x&code=y",
    "ConceptMap/$translate?url=urn:x&code=y&system=urn:x",
    "Subscription/$get-ws-binding-token?id=boris-s",
    "CodeSystem/$subsumes?system=urn:x&codeA=a&codeB=b",
    "CodeSystem/boris/$subsumes?codeA=a&codeB=b",
    "CodeSystem/$validate-code?url=urn:x&code=y",
    "CodeSystem/boris/$validate-code?code=y",
    "ValueSet/$validate-code?url=urn:x&code=y",
    "ValueSet/boris/$validate-code?code=y",
    "ValueSet/boris/$expand",
    "ConceptMap/boris/$translate?code=y&system=urn:x",
    "Device/$device-statistics?month=2024-03",
    "$export",
    "Patient/$export",
    "Group/both/$export",
    "Group/boris/$export",
    "$export-status/boris",
    "$export-file/boris/boris",
    "metadata",
    ".well-known/smart-configuration",
    "/readings/quarantine",
)  # fmt: skip


def reading() -> Iterator[Request]:
    """All that changes nothing."""
    for path in _SEARCHES:
        yield Request("GET", path)
    for resource_type, name in TYPES.items():
        yield Request("GET", f"{resource_type}?_total=accurate&_count=500")
        for each in (name, f"{name}x"):
            yield from _looks(f"{resource_type}/{each}")
    for name in (DELETED, MOVED, "boris-o5"):
        yield from _looks(f"Observation/{name}")
    for path in ("Patient/_search", "Patient/anna/Observation/_search", "_search"):
        form = (("Content-Type", "application/x-www-form-urlencoded"),)
        yield Request("POST", path, None, form)
    gets = [
        *_SEARCHES,
        *(f"{t}/{i}" for t, i in TYPES.items()),
        "Observation/boris-moved/_history/1",
    ]
    # Those of all types take as long as all others together, and go the same way.
    gets = [path for path in gets if path[0] not in "/?$"]
    entries = [{"request": {"method": "GET", "url": path}} for path in gets]
    yield Request("POST", "", _bundle("batch", *entries))
    for entry in (*entries[:3], entries[-1], entries[-5]):
        yield Request("POST", "", _bundle("transaction", entry))
    yield Request("POST", "Observation/$validate", observation("x", "boris"))


def _looks(path: str) -> Iterator[Request]:
    yield Request("GET", path)
    yield Request("HEAD", path)
    yield Request("GET", path, None, (("If-None-Match", 'W/"1"'),))
    yield Request("GET", path, None, (("If-Modified-Since", "Mon, 01 Jan 2125 00:00:00 GMT"),))
    yield Request("GET", f"{path}?_summary=true")
    for version in (1, 2, 3):
        yield Request("GET", f"{path}/_history/{version}")
    yield Request("GET", f"{path}/_history")
    yield Request("GET", f"{path}/_history?_count=1&_sort=_lastUpdated")


def writing() -> Iterator[Request]:
    """What would change something, were it allowed."""
    for resource_type, name in TYPES.items():
        body = _body(resource_type, name)
        path = f"{resource_type}/{name}"
        yield Request("PUT", path, body)
        yield Request("PUT", path, body, (("If-Match", 'W/"1"'),))
        yield Request("PUT", path, body, (("If-Match", 'W/"2"'),))
        yield Request("PUT", path, body, (("If-None-Match", "*"),))
        yield Request("PATCH", path, [{"op": "test", "path": "/id", "value": name}], _PATCH)
        yield Request("PATCH", path, [{"op": "add", "path": "/language", "value": "ru"}], _PATCH)
        yield Request("POST", f"{path}/$meta-add", _meta())
        yield Request("POST", f"{path}/$meta-delete", _meta())
        yield Request("DELETE", path)
        yield Request("DELETE", path, None, (("If-Match", 'W/"1"'),))
        yield Request("PUT", f"{resource_type}?_id={name}", {**body, "id": name})
        yield Request("PATCH", f"{resource_type}?_id={name}", [], _PATCH)
        yield Request("DELETE", f"{resource_type}?_id={name}")
    created = {k: v for k, v in observation("x", "anna").items() if k != "id"}
    for condition in (
        "identifier=urn:reading|boris-r1",
        "_id=boris-o1",
        "patient.name=petrov",
        "code=boris",
    ):
        yield Request("POST", "Observation", created, (("If-None-Exist", condition),))
        yield Request("PUT", f"Observation?{condition}", created)
        yield Request("DELETE", f"Observation?{condition}")
        entry = {"resource": created, "request": {"method": "POST", "url": "Observation"}}
        entry["request"] = {**entry["request"], "ifNoneExist": condition}
        yield Request("POST", "", _bundle("transaction", entry))
        yield Request("POST", "", _bundle("batch", entry))
    for link in ("Patient/boris", "Patient/nobody", "Patient?name=petrov", "Patient?_id=boris"):
        entry = {
            "resource": {**created, "performer": [{"reference": link}]},
            "request": {"method": "POST", "url": "Observation"},
        }
        yield Request("POST", "", _bundle("transaction", entry))
        yield Request("POST", "Observation", entry["resource"])
        yield Request("POST", "Observation", {**created, "subject": {"reference": link}})
    for link in ("Observation/boris-o1", "Observation/nothing"):
        yield Request("POST", "Observation", {**created, "hasMember": [{"reference": link}]})
    for name in ("boris-o1", "boris-gone", "nothing"):
        mine = {**created, "id": name}
        yield Request("PUT", f"Observation/{name}", mine)
        for method in ("PUT", "DELETE"):
            entry = {"request": {"method": method, "url": f"Observation/{name}"}}
            if method == "PUT":
                entry["resource"] = mine
            yield Request("POST", "", _bundle("transaction", entry))
            yield Request("POST", "", _bundle("batch", entry))
    yield Request("POST", "DetectedIssue/boris-i/$acknowledge")
    yield Request("DELETE", "$export-status/boris")
    for path in ("PlanDefinition/$apply", "PlanDefinition/boris/$apply"):
        yield Request("POST", path, _inputs("subject", "Patient/boris"))
    for path in ("$closure", "ConceptMap/$closure"):
        yield Request("POST", path, _inputs("name", "x"))
    yield Request("POST", "/readings/ihealth?patient=urn:snils|boris-1", {"x": 1}, _JSON)
    yield Request("POST", "/readings/quarantine/reprocess?quarantine=Task/boris-k")
    yield Request("POST", "/enrolments/device-kit", {"x": 1}, _JSON)


_PATCH = (("Content-Type", "application/json-patch+json"),)
_JSON = (("Content-Type", "application/json"),)


def _body(resource_type: str, name: str) -> dict[str, Any]:
    if resource_type == "Observation":
        return observation(name, "anna")
    return {"resourceType": resource_type, "id": name, "language": "ru"}


def _meta() -> dict[str, Any]:
    tag = {"tag": [{"system": "urn:t", "code": "x"}]}
    return {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": tag}]}


def _inputs(name: str, text: str) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": [{"name": name, "valueString": text}]}


def _bundle(kind: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}
