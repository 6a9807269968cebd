"""AuditEvents as views of the trail's sheets: one for each patient that a record is about.

After IHE's Basic Audit Log Patterns: https://profiles.ihe.net/ITI/BALP/
A patient who may see what was done with his data must not see whose data else was looked
at by the same request, so no event names two patients.
"""

import base64
import re
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import unquote_plus

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.security import audit_sheet
from fhir_server.core.security.audit_record import AuditRecord, Touched, named_patients
from fhir_server.core.version import Version, format_instant

_BALP = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_TYPES = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_INTERACTIONS = "http://hl7.org/fhir/restful-interaction"
_OWN_INTERACTIONS = "https://pmp.example/fhir/CodeSystem/server-interaction"
_ENTITY_TYPES = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_BALP_ENTITY_TYPES = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
_ROLES = "http://terminology.hl7.org/CodeSystem/object-role"
_PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_REASONS = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_ROLE_SYSTEM = "https://pmp.example/fhir/CodeSystem/server-role"
_TOKENS = "https://pmp.example/fhir/NamingSystem/access-token-id"
_CLIENTS = "https://pmp.example/fhir/NamingSystem/client"
_SUBJECTS = "https://pmp.example/fhir/NamingSystem/subject"
_SERVER = {"display": "FHIR server for personal medical assistants"}

_FHIRS = frozenset(
    {
        "batch",
        "capabilities",
        "create",
        "delete",
        "history-instance",
        "history-system",
        "history-type",
        "operation",
        "patch",
        "read",
        "search-system",
        "search-type",
        "transaction",
        "update",
        "vread",
    }
)
_PROFILES = {
    "create": "Create",
    "delete": "Delete",
    "read": "Read",
    "search-system": "Query",
    "search-type": "Query",
    "update": "Update",
    "vread": "Read",
}
LEFT_OUT = "\N{HORIZONTAL ELLIPSIS}"
"""Stands for a value that the patient whom an event is about is not told."""

_PLAIN = frozenset(
    {
        "_at", "_count", "_elements", "_format", "_include", "_lastUpdated", "_pretty",
        "_revinclude", "_since", "_sort", "_summary", "_total", "_type", "category",
        "clinical-status", "code", "combo-code", "component-code", "date", "end", "intent",
        "issued", "max", "month", "start", "statistic", "status", "system", "value-quantity",
    }
)  # fmt: skip
"""Parameters whose values name nobody."""

_PLAIN_MODIFIERS = ("", "missing", "not", "in", "not-in", "above", "below", "iterate")

_NOBODYS = (Touched(),)
_SEARCHES = ("search-type", "search-system", "search-compartment")

_ID = re.compile(r"audit-([1-9][0-9]{0,17})(?:\.([1-9][0-9]{0,8}))?\Z", re.ASCII)


def parse_id(resource_id: str) -> tuple[int, int] | None:
    """The sheet's number and the place on it of an AuditEvent's id; None: not of ours."""
    found = _ID.match(resource_id)
    return None if found is None else (int(found[1]), int(found[2] or 0))


def events(
    sequence: int,
    at: datetime,
    text: bytes,
    *,
    patient: str | None = None,
    is_newest_first: bool = False,
) -> Iterator[tuple[int, Version]]:
    """The AuditEvents of a sheet by their number: of each record one a patient, or one of nobody's.

    With `patient` only those that are on that patient's list.
    """
    places = [
        (record, touched)
        for record in audit_sheet.parse(text)
        for touched in record.touched or _NOBODYS
    ]
    numbers = range(len(places))
    for number in reversed(numbers) if is_newest_first else numbers:
        record, touched = places[number]
        if patient is None or patient in (touched.patient, record.asker.user):
            yield number, _version(sequence, number, at, record, touched)


def find(sequence: int, number: int, at: datetime, text: bytes) -> Version | None:
    """One AuditEvent of a sheet."""
    left = number
    for record in audit_sheet.parse(text):
        all_touched = record.touched or _NOBODYS
        if left < len(all_touched):
            return _version(sequence, number, at, record, all_touched[left])
        left -= len(all_touched)
    return None


def _version(
    sequence: int, number: int, at: datetime, record: AuditRecord, touched: Touched
) -> Version:
    resource_id = f"audit-{sequence}.{number}" if number else f"audit-{sequence}"
    body = resource_json.format(_event(resource_id, at, record, touched))
    return Version(ResourceKey("AuditEvent", resource_id), 1, at, "create", body, sequence)


def _event(resource_id: str, at: datetime, record: AuditRecord, touched: Touched) -> Resource:
    instant = format_instant(at)
    meta: Resource = {"versionId": "1", "lastUpdated": instant}
    if (profile := _profile(record, touched)) is not None:
        meta["profile"] = [profile]
    event: Resource = {
        "resourceType": "AuditEvent",
        "id": resource_id,
        "meta": meta,
        "type": {"system": _TYPES, "code": "rest", "display": "Restful Operation"},
        "subtype": [_subtype(record.interaction)],
        "action": record.action,
        "recorded": instant,
        "outcome": record.outcome,
    }
    if described := "; ".join(filter(None, (_told_status(record), record.reason))):
        event["outcomeDesc"] = described
    asker = record.asker
    if asker.purposes:
        event["purposeOfEvent"] = [_coded(_REASONS, code) for code in asker.purposes]
    event["agent"] = list(_agents(record))
    event["source"] = {
        "observer": _SERVER,
        "type": [
            {
                "system": "http://terminology.hl7.org/CodeSystem/security-source-type",
                "code": "4",
                "display": "Application Server",
            }
        ],
    }
    if entities := list(_entities(record, touched)):
        event["entity"] = entities
    return event


def _profile(record: AuditRecord, touched: Touched) -> str | None:
    """The pattern that the event follows: those of IHE are of what succeeded."""
    name = _PROFILES.get(record.interaction)
    if name is None or record.outcome != "0" or not record.address:
        return None
    # They know one entity with data, or one with a query.
    if name == "Query" and _asked(record, touched) is None:
        return None
    if name != "Query" and len(touched.what) != 1:
        return None
    return f"{_BALP}{'Patient' if touched.patient else ''}{name}"


def _told_status(record: AuditRecord) -> str:
    return f"HTTP {record.status}" if record.outcome != "0" and record.status else ""


def _subtype(interaction: str) -> Resource:
    if interaction in _FHIRS:
        return {"system": _INTERACTIONS, "code": interaction}
    if interaction.startswith("$"):
        return {"system": _INTERACTIONS, "code": "operation", "display": interaction}
    return {"system": _OWN_INTERACTIONS, "code": interaction}


def _agents(record: AuditRecord) -> Iterator[Resource]:
    asker, is_outgoing = record.asker, record.action == "R"
    # Data flow from the source to the destination: out of the server when it is read.
    client_role, server_role = ("110152", "110153") if is_outgoing else ("110153", "110152")
    client: Resource = {
        "type": _coded(_DCM, client_role),
        "who": _identified(_CLIENTS, asker.client) if asker.client else {"display": asker.kind},
        "requestor": not (asker.subject or asker.user),
    }
    if asker.token:
        client["policy"] = [f"{_TOKENS}/{asker.token}"]
    if record.address:
        client["network"] = {"address": record.address, "type": "2"}
    yield client
    yield {
        "type": _coded(_DCM, server_role),
        "who": _SERVER,
        "requestor": False,
        "network": {"address": "fhir-server", "type": "1"},
    }
    if asker.subject or asker.user:
        who = {"reference": asker.user} if asker.user else _identified(_SUBJECTS, asker.subject)
        code = "IRCP" if record.action in ("R", "E") else "AUT"
        user: Resource = {
            "type": _coded(_PARTICIPATION, code),
            "who": who,
            "requestor": True,
        }
        if asker.subject:
            user["altId"] = asker.subject
        if asker.roles:
            user["role"] = [_coded(_ROLE_SYSTEM, role) for role in asker.roles]
        if asker.purposes:
            user["purposeOfUse"] = [_coded(_REASONS, code) for code in asker.purposes]
        yield user


def _entities(record: AuditRecord, touched: Touched) -> Iterator[Resource]:
    if touched.patient:
        yield {
            "what": {"reference": touched.patient},
            "type": {"system": _ENTITY_TYPES, "code": "1", "display": "Person"},
            "role": {"system": _ROLES, "code": "1", "display": "Patient"},
        }
    for what in touched.what:
        yield {
            "what": {"reference": what},
            "type": {"system": _ENTITY_TYPES, "code": "2", "display": "System Object"},
            "role": {"system": _ROLES, "code": "4", "display": "Domain Resource"},
        }
    if (asked := _asked(record, touched)) is not None:
        code, display = ("24", "Query") if record.interaction in _SEARCHES else ("20", "Job")
        yield {
            "type": {"system": _ENTITY_TYPES, "code": "2", "display": "System Object"},
            "role": {"system": _ROLES, "code": code, "display": display},
            "query": base64.b64encode(asked.encode()).decode("ascii"),
        }
    if record.request_id:
        yield {
            "what": {"identifier": {"value": record.request_id}},
            "type": {"system": _BALP_ENTITY_TYPES, "code": "XrequestId"},
        }


def _asked(record: AuditRecord, touched: Touched) -> str | None:
    """The request as it came, as far as it is about this patient; None: the rest says it."""
    if touched.what and record.outcome == "0" and record.interaction in _PROFILES:
        return None
    path, _, query = record.request.partition("?")
    if not touched.patient and len(record.touched) < 2:
        return _joined(path, query, record.form)
    if not set(named_patients(path.split("/"), ())) <= {touched.patient}:
        return None
    # What was searched for may name somebody else, found or not.
    return _joined(path, *(_told(text, touched.patient) for text in (query, record.form)))


def _joined(path: str, query: str, form: str) -> str | None:
    asked = f"{path}?{query}" if query else path
    return (f"{asked}\n\n{form}" if form else asked) or None


def _told(query: str, patient: str) -> str:
    """A query without the values that may name another than `patient`."""
    return "&".join(_told_pair(pair, patient) for pair in query.split("&")) if query else ""


def _told_pair(pair: str, patient: str) -> str:
    name, mark, value = pair.partition("=")
    name, value = unquote_plus(name), unquote_plus(value)
    bare, _, modifier = name.partition(":")
    if bare in _PLAIN and modifier in _PLAIN_MODIFIERS:
        return pair
    if "," not in value and named_patients((), ((name, value),)) == [patient]:
        return pair
    return f"{pair.partition('=')[0]}={LEFT_OUT}" if mark else LEFT_OUT


def _identified(system: str, value: str) -> Resource:
    return {"identifier": {"system": system, "value": value}}


def _coded(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}]}
