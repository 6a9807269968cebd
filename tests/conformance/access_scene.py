"""Two worlds that differ in one patient, and those who must not be able to tell them apart.

In both lives Anna. Boris lives in the first alone. Whoever may see Anna and not Boris gets
the same answer to the same question in both, or something tells.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests

from fhir_server.core.identity import ResourceKey
from fhir_server.core.security import scope
from fhir_server.core.security.principal import ANONYMOUS, Principal
from fhir_server.errors import Unauthenticated
from tests.conformance.conftest import Server

HEADER = "x-test-principal"


def principal(kind: str, scopes: str, **more: Any) -> Principal:
    for name in ("patient", "fhir_user"):
        if name in more:
            more[name] = ResourceKey(*more[name].split("/"))
    return Principal(kind, scopes=scope.parse_all(scopes), **more)


PRINCIPALS = {
    "patient": principal(
        "patient", "patient/*.cruds", client_id="app", subject="anna", patient="Patient/anna"
    ),
    "granular": principal(
        "patient",
        "patient/Observation.rs?category=urn:c|heart patient/Patient.r patient/Device.rs",
        client_id="watch",
        subject="anna",
        patient="Patient/anna",
    ),
    "physician": principal(
        "user",
        "user/*.cruds",
        client_id="emr",
        subject="dr",
        fhir_user="Practitioner/dr",
        purposes=("TREAT", "BTG"),
    ),
    "insurer": principal(
        "system",
        "system/*.rs",
        client_id="ins",
        roles=frozenset({"insurer=Organization/insurer"}),
    ),
    "manufacturer": principal(
        "system",
        "system/*.rs",
        client_id="maker",
        roles=frozenset({"manufacturer=Organization/maker"}),
    ),
    "gateway": principal("gateway", "", client_id="gw", subject="gw"),
}
CONTROLS = {
    "hospital": principal("system", "system/*.cruds", client_id="hospital"),
    "registry": principal("system", "system/Observation.rs", client_id="registry"),
    "other": principal(
        "patient", "patient/*.cruds", client_id="app", subject="boris", patient="Patient/boris"
    ),
    # Her own account: the audit trail knows her as the one who asked.
    "herself": principal(
        "patient", "patient/*.cruds", client_id="app", subject="anna", patient="Patient/anna",
        fhir_user="Patient/anna",
    ),
    "colleague": principal(
        "user", "user/*.cruds", client_id="emr", subject="dx", fhir_user="Practitioner/dx",
        purposes=("TREAT", "BTG"),
    ),
}  # fmt: skip


class ByHeader:
    """Believes whatever a header says: the tests' own authenticator."""

    async def authenticate(self, _scope: object, headers: Mapping[str, str]) -> Principal:
        name = headers.get(HEADER, "")
        if name == "nobody":
            return ANONYMOUS
        found = {**PRINCIPALS, **CONTROLS}.get(name)
        if found is None:
            raise Unauthenticated("who is asking?")
        return found


class World:
    """A server, and what is asked of it."""

    def __init__(self, server: Server, store: str = "") -> None:
        self.server = server
        self.store = store
        self.session = requests.Session()

    def ask(
        self, who: str, method: str, path: str, json: Any = None, **headers: str
    ) -> requests.Response:
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if json is not None:
            headers = {"Content-Type": "application/fhir+json", **headers}
        base = self.server.url if path.startswith("/") else f"{self.server.fhir}/"
        url = path if path.startswith("http") else f"{base}{path}"
        return self.session.request(
            method, url, json=json, headers={HEADER: who, **headers}, timeout=30
        )

    def put(self, *resources: dict[str, Any]) -> None:
        for resource in resources:
            path = f"{resource['resourceType']}/{resource['id']}"
            answer = self.ask("hospital", "PUT", path, resource)
            assert answer.status_code in (200, 201), answer.text

    def told(self, answer: requests.Response) -> tuple[Any, ...]:
        """What an answer says, without what differs between any two servers."""
        names = ("ETag", "Location", "Content-Location", "Allow", "Content-Type")
        location = {name: answer.headers.get(name, "") for name in names}
        said = re.sub(DIFFERENT, "~", answer.text)
        return answer.status_code, re.sub(DIFFERENT, "~", str(location)), said


DIFFERENT = (
    r"127\.0\.0\.1:\d+|"
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)|"
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|"
    r"(?<=_page=)[\w\-.=]+"
)

_HEART = {"coding": [{"system": "urn:c", "code": "heart"}]}


def observation(name: str, patient: str, value: float = 60, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "category": [_HEART],
        "code": {"coding": [{"system": "urn:s", "code": "pulse"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": "2024-03-01T10:00:00Z",
        "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": "/min"},
        **more,
    }


def _reading(patient: str) -> dict[str, str]:
    return {"system": "urn:reading", "value": f"{patient}-r1"}


def record(patient: str, family: str, doctor: str, value: float) -> list[dict[str, Any]]:
    """Everything that is about one patient, its ids beginning with theirs."""
    subject = {"reference": f"Patient/{patient}"}
    concept = {"text": f"secret of {patient}", "coding": [{"system": "urn:s", "code": patient}]}
    return [
        {
            "resourceType": "Patient",
            "id": patient,
            "identifier": [{"system": "urn:snils", "value": f"{patient}-1"}],
            "name": [{"family": family}],
            "birthDate": "1950-01-01",
            "gender": "male",
        },
        observation(f"{patient}-o1", patient, value, identifier=[_reading(patient)]),
        observation(f"{patient}-o2", patient, value + 1, code=concept, category=[concept]),
        observation(
            f"{patient}-o3", patient, value + 2, device={"reference": f"Device/{patient}-d"}
        ),
        {
            "resourceType": "Condition",
            "id": f"{patient}-c",
            "subject": subject,
            "code": concept,
            "recorder": {"reference": f"Practitioner/{doctor}"},
        },
        {
            "resourceType": "Device",
            "id": f"{patient}-d",
            "identifier": [{"system": "urn:serial", "value": f"{patient}-77"}],
            "owner": {"reference": f"Organization/{'maker' if patient == 'anna' else 'insurer'}"},
        },
        {
            "resourceType": "DeviceUseStatement",
            "id": f"{patient}-u",
            "status": "active",
            "subject": subject,
            "device": {"reference": f"Device/{patient}-d"},
            "timingPeriod": {"start": "2024-01-01"},
        },
        {
            "resourceType": "CareTeam",
            "id": f"{patient}-t",
            "status": "active",
            "subject": subject,
            "participant": [{"member": {"reference": f"Practitioner/{doctor}"}}],
        },
        {
            "resourceType": "Coverage",
            "id": f"{patient}-v",
            "status": "active",
            "beneficiary": subject,
            "payor": [{"reference": "Organization/insurer"}],
        },
        {
            "resourceType": "Goal",
            "id": f"{patient}-g",
            "lifecycleStatus": "active",
            "description": concept,
            "subject": subject,
        },
        {
            "resourceType": "List",
            "id": f"{patient}-l",
            "status": "current",
            "mode": "working",
            "subject": subject,
            "entry": [{"item": {"reference": f"Observation/{patient}-o1"}}],
        },
        {
            "resourceType": "Task",
            "id": f"{patient}-k",
            "status": "requested",
            "intent": "order",
            "for": subject,
            "description": f"secret of {patient}",
        },
        {
            "resourceType": "Provenance",
            "id": f"{patient}-p",
            "target": [{"reference": f"Observation/{patient}-o1"}],
            "recorded": "2024-01-01T00:00:00Z",
            "agent": [{"who": {"reference": f"Practitioner/{doctor}"}}],
        },
        {
            "resourceType": "Binary",
            "id": f"{patient}-b",
            "contentType": "text/plain",
            "data": "c2VjcmV0",
        },
        {
            "resourceType": "Subscription",
            "id": f"{patient}-s",
            "status": "off",
            "reason": f"secret of {patient}",
            "criteria": f"Observation?patient={patient}",
            "channel": {"type": "rest-hook", "endpoint": "https://a.example/hook"},
        },
    ]


PAYMENT = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "code": "HPAYMT",
}


def consent(name: str, patient: str, said: str, **provision: Any) -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "id": name,
        "status": "active",
        "scope": {"text": "privacy"},
        "category": [{"text": "privacy"}],
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": "2024-01-01",
        "policyRule": {"text": "none"},
        "provision": {"type": said, **provision},
    }


def directory() -> list[dict[str, Any]]:
    return [
        {"resourceType": "Organization", "id": "insurer", "name": "Insurer"},
        {"resourceType": "Organization", "id": "maker", "name": "Maker"},
        {"resourceType": "Practitioner", "id": "dr", "name": [{"family": "Doctor"}]},
        {"resourceType": "Practitioner", "id": "dx", "name": [{"family": "Other"}]},
    ]


def populate(world: World, *, with_boris: bool) -> None:
    world.put(*directory(), *record("anna", "Ivanova", "dr", 60))
    world.put(consent("anna-n", "anna", "permit"))
    # Anna's own data name what is Boris's, in both worlds.
    member = {"reference": "Observation/boris-o1"}
    world.put(
        observation(
            "anna-o4", "anna", hasMember=[member], performer=[{"reference": "Patient/boris"}]
        )
    )
    if not with_boris:
        world.put(
            {
                "resourceType": "Group", "id": "both", "type": "person", "actual": True,
                "member": [{"entity": {"reference": "Patient/anna"}}],
            }
        )  # fmt: skip
        return
    world.put(*record("boris", "Petrov", "dx", 90))
    world.put(consent("boris-n", "boris", "deny", purpose=[PAYMENT]))
    world.put(observation("boris-o5", "boris", 91, performer=[{"reference": "Patient/anna"}]))
    world.put(
        observation("boris-o1", "boris", 95, identifier=[_reading("boris")]),
        observation("boris-gone", "boris"),
    )
    # Noted as Anna's by mistake, and corrected.
    world.put(observation("boris-moved", "anna", 99), observation("boris-moved", "boris", 99))
    assert world.ask("hospital", "DELETE", "Observation/boris-gone").status_code in (200, 204)
    world.put(
        {
            "resourceType": "Group", "id": "both", "type": "person", "actual": True,
            "member": [{"entity": {"reference": f"Patient/{each}"}} for each in ("anna", "boris")],
        }
    )  # fmt: skip


@contextmanager
def worlds_apart(*stores: str) -> Iterator[tuple[World, World]]:
    """One in which Boris lives, and one in which he does not."""
    settings = {"plan_templates": False, "validation": "warn", "views_seconds": 0}
    with (
        Server(ByHeader(), store=stores[0], **settings) as first,
        Server(ByHeader(), store=stores[1], **settings) as second,
    ):
        found = World(first, stores[0]), World(second, stores[1])
        for world, with_boris in zip(found, (True, False), strict=True):
            populate(world, with_boris=with_boris)
        yield found
