"""What the mappings' examples, orders, templates of plans and rules of alerts make."""

import itertools
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from fhir_server import definitions
from fhir_server.core import resource_json
from fhir_server.core.date_range import EARLIEST, LATEST, DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.catalog import compile_catalog
from fhir_server.core.mapping.check import outcomes_json
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.reading import Gateway, IdentifierToken, Reading
from fhir_server.core.monitoring import alert, enrolment, plan_definition
from fhir_server.core.monitoring.episode import Episode
from fhir_server.core.monitoring.rule import Rule, RuleKind
from fhir_server.profile_folders import read_plan_definitions

DEFINITIONS = definitions.load()
URL = "https://pmp.example/fhir/StructureDefinition/"
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)

_PATIENT, _DEVICE = ResourceKey("Patient", "p"), ResourceKey("Device", "d")
_FILES = definitions.read_mapping_files(DEFINITIONS.mapping_folders)
_LANGUAGE = definitions.read_mapping_language(DEFINITIONS.terminology_folders, "Europe/Moscow")
MAPPINGS = compile_catalog(_FILES, _LANGUAGE)


def _payloads():
    for name, files in sorted(_FILES.items()):
        for example in files.examples:
            payload = resource_json.parse(example.payload_text.encode())
            yield name, f"{name}/{example.case}", payload


def readings():
    """The Observations of every example as they are stored, of a medical device and of another."""
    token = IdentifierToken("urn:serial", "1")
    for name, case, payload in _payloads():
        mapping = MAPPINGS.get(name)
        if mapping.is_enrolment:
            continue
        found = [o for o in mapping.read(payload, Gateway(NOW)) if isinstance(o, Reading)]
        for number, is_auxiliary in itertools.product(range(len(found)), (False, True)):
            placement = Placement(_PATIENT, _DEVICE, token, is_auxiliary=is_auxiliary)
            resource = mapping.project(found[number], placement, NOW)
            standing = "auxiliary" if is_auxiliary else "medical"
            yield f"{case}#{number} {standing}", resource


def expected_readings():
    """The Observations of every example's expected file."""
    for name, case, payload in _payloads():
        outcomes = outcomes_json(MAPPINGS.get(name), payload)
        for number, outcome in enumerate(outcomes if isinstance(outcomes, list) else ()):
            if "resource" in outcome:
                yield f"{case}#{number}", outcome["resource"]


def enrolments():
    for name, case, payload in _payloads():
        mapping = MAPPINGS.get(name)
        if not mapping.is_enrolment:
            continue
        order = mapping.prescription(payload)
        yield f"{case} patient", enrolment.patient(order.patient)
        for number, device in enumerate(order.devices):
            yield f"{case} device {number}", enrolment.device(device)
            statement = enrolment.device_use_statement(order, number, _PATIENT, _DEVICE)
            yield f"{case} assignment {number}", statement
        goals = [ResourceKey("Goal", f"g{n}") for n in range(len(order.limits))]
        for number in range(len(goals)):
            yield f"{case} goal {number}", enrolment.goal(order, number, _PATIENT)
        yield f"{case} plan", enrolment.care_plan(order, _PATIENT, goals)


def applied_plans():
    """Every template of a plan: stored, and as a proposal."""
    zone = UTC
    for definition in read_plan_definitions(DEFINITIONS.profile_folders):
        for is_stored in (True, False):
            how = plan_definition.Application(
                subject={"reference": "Patient/p"},
                start="2026-03-02",
                now="2026-03-02T09:00:00.000Z",
                practitioner={"reference": "Practitioner/1"},
                identifier={"system": "urn:orders", "value": "17"} if is_stored else None,
            )
            ids = (f"id-{n}" for n in itertools.count())
            new_id = ids.__next__ if is_stored else None
            applied = plan_definition.apply(definition, how, new_id, zone)
            kind = "stored" if is_stored else "proposed"
            yield f"{definition['id']} {kind}", applied.plan
            for number, goal in enumerate(applied.goals):
                yield f"{definition['id']} {kind} goal {number}", goal


def alerts():
    """Of every kind: going on, over, withdrawn, and those who are told."""
    rules = definitions.read_monitoring_rules(DEFINITIONS.profile_folders)
    codes = {(rule.code, rule.severity) for rule in rules.plans}
    codes |= {("repeatedly-below-limit", "moderate"), ("falling", "low")}
    key = ResourceKey("DetectedIssue", "1")
    going_on = Episode(0, None, (ResourceKey("Observation", "o"),), 0)
    for code, severity in sorted(codes):
        rule = Rule(
            "Goal/7#0.above", code, RuleKind.LIMIT, frozenset({("http://loinc.org", "8480-6")}),
            is_above=True, limit=Decimal(135), unit="mm[Hg]", source=ResourceKey("Goal", "7"),
            period=DateRange(EARLIEST, LATEST), severity=severity,
        )  # fmt: skip
        issue = alert.new_alert(rule, _PATIENT, going_on)
        yield f"{code} goes on", issue
        yield f"{code} is over", alert.with_episode(issue, going_on._replace(end=60_000_000))
        yield f"{code} is withdrawn", alert.withdrawn(issue)
        for whom in ("patient", "physician", "escalation"):
            recipients = [{"reference": "Practitioner/1"}]
            yield f"{code} {whom}", alert.notice(key, issue, whom, recipients, NOW)


def all_outputs() -> dict[str, Any]:
    """Everything by a name that says where it comes from, as a client reads it."""
    parts = readings(), expected_readings(), enrolments(), applied_plans(), alerts()
    found = itertools.chain.from_iterable(parts)
    return {
        name: resource_json.parse_resource(resource_json.format(resource))
        for name, resource in found
    }
