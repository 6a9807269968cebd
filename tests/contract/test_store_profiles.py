"""Profiles that are stored: every process counts them from the commit on."""

from fhir_server.core.identity import ResourceKey
from fhir_server.operations.profile_checks import LiveProfiles, ProfileChecks

URL = "https://pmp.example/fhir/StructureDefinition/stored"
CODES = "https://pmp.example/fhir/ValueSet/stored"
CLAIM = {
    "resourceType": "Observation",
    "meta": {"profile": [URL]},
    "status": "final",
    "code": {"coding": [{"system": "urn:s", "code": "a"}]},
}


def profile(**element):
    return {
        "resourceType": "StructureDefinition",
        "id": "p",
        "url": URL,
        "type": "Observation",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Observation",
        "derivation": "constraint",
        "differential": {"element": [{"path": "Observation.code", **element}]},
    }


def value_set(*codes):
    include = {"system": "urn:s", "concept": [{"code": code} for code in codes]}
    compose = {"include": [include]}
    return {"resourceType": "ValueSet", "id": "v", "url": CODES, "compose": compose}


def checks(definitions, store):
    live = LiveProfiles(definitions.profiles, store.outbox, definitions.codes_with)
    return ProfileChecks(definitions.validator, live, "warn")


def told(validator):
    return [(issue.severity, issue.code) for issue in validator.check(CLAIM)]


def test_a_profile_counts_in_every_process_at_once(driver):
    other = driver.open_another()
    here, there = checks(driver.definitions, driver.store), checks(driver.definitions, other)
    assert told(here) == told(there) == [("warning", "not-found")]
    driver.write(profile(patternCodeableConcept={"text": "t"}))
    assert told(here) == told(there) == [("error", "value")]
    driver.write(profile(patternCodeableConcept={"coding": [{"code": "a"}]}))
    assert told(here) == told(there) == []
    driver.delete(ResourceKey("StructureDefinition", "p"))
    assert told(here) == told(there) == [("warning", "not-found")]


def test_a_stored_value_set_is_what_a_binding_means(driver):
    validator = checks(driver.definitions, driver.store)
    driver.write(profile(binding={"strength": "required", "valueSet": CODES}))
    assert told(validator) == [("information", "informational")]
    driver.write(value_set("b"))
    assert told(validator) == [("error", "code-invalid")]
    driver.write(value_set("a", "b"))
    assert told(validator) == []
