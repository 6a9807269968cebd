"""Our profiles: everything that the server makes keeps them, and they say what the README says."""

import copy
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.core.validation.profiled import check_claims, check_thoroughly, claimed
from fhir_server.core.validation.profiles import Profiles
from fhir_server.profile_folders import read_project_profiles
from tests.unit.validation.project_outputs import DEFINITIONS, MAPPINGS, URL, all_outputs
from tools import describe_profiles

OUTPUTS = all_outputs()
PROFILES: Profiles = DEFINITIONS.profiles
PROJECT = {r["id"]: r for r in read_project_profiles(DEFINITIONS.profile_folders)}


def issues(resource):
    return (
        *DEFINITIONS.validator.check(resource),
        *check_claims(lambda _: PROFILES, resource, "refuse"),
        *check_thoroughly(PROFILES, resource, claimed(resource), "refuse"),
    )


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_the_server_makes_keeps_what_it_claims(name):
    told = [i for i in issues(OUTPUTS[name]) if "must be supported" not in i.diagnostics]
    assert told == []


def test_what_the_server_makes_claims_a_profile_of_ours():
    silent = {
        name
        for name, found in OUTPUTS.items()
        if not any(url.startswith(URL) for url in claimed(found))
    }
    # A limit in words alone limits nothing.
    assert silent == {f"pregnancy-monitoring {kind} goal 0" for kind in ("stored", "proposed")}


def test_every_profile_of_a_resource_is_claimed_by_something_that_the_server_makes():
    claims = {url.removeprefix(URL) for found in OUTPUTS.values() for url in claimed(found)}
    wanted = {name for name, found in PROJECT.items() if found["kind"] == "resource"}
    assert wanted <= claims


@pytest.mark.parametrize("name", PROJECT)
def test_a_profile_can_be_used_and_is_valid_itself(name):
    assert PROFILES.fault(URL + name) is None
    definition = PROJECT[name]
    assert definition["url"] == URL + name
    found = (
        *DEFINITIONS.validator.check(definition),
        *check_thoroughly(PROFILES, definition, (), "refuse"),
    )
    assert [i for i in found if i.severity != "information"] == []


@pytest.mark.parametrize("name", PROJECT)
def test_every_value_set_that_a_profile_binds_to_has_codes_here(name):
    bound = re.findall(r'"valueSet": "([^"]+)"', json.dumps(PROJECT[name]))
    assert all(DEFINITIONS.codes_with(())(url) is not None for url in bound)


def test_no_profile_that_a_reading_claims_limits_a_measured_number():
    claims = {url for found in OUTPUTS.values() for url in claimed(found)}
    assert [url for url in claims if "patient" not in url and PROFILES.limits_numbers(url)] == []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_reading_conforms_whatever_number_was_measured(data):
    """So one reading of a shape speaks for all others."""
    name = data.draw(st.sampled_from(sorted(n for n in OUTPUTS if "#" in n)))
    reading = copy.deepcopy(OUTPUTS[name])
    for holder in (reading, *reading.get("component", ())):
        if "value" in holder.get("valueQuantity", {}):
            number = data.draw(st.decimals(allow_nan=False, allow_infinity=False))
            holder["valueQuantity"]["value"] = number
    assert check_claims(lambda _: PROFILES, reading, "refuse") == ()


def test_an_element_stands_where_its_type_has_it():
    """A differential out of order is refused by HL7's own tools."""
    for name, definition in PROJECT.items():
        rule = PROFILES.rules[definition["type"]]
        order = ["meta", *(e.name for e in rule.elements)]
        tops = [
            order.index(e["id"].split(".")[1].partition(":")[0].removesuffix("[x]"))
            for e in definition["differential"]["element"]
            if "." in e["id"]
        ]
        assert tops == sorted(tops), name


def test_the_tables_are_current():
    assert describe_profiles.written() == describe_profiles.README.read_text(encoding="utf-8")


def test_a_profile_that_is_not_in_the_readme_is_told():
    text = describe_profiles.README.read_text(encoding="utf-8")
    assert all(f"## `{name}`" in text for name in PROJECT)


def test_a_kind_that_no_table_knows_is_a_device_reading():
    claims = [
        found["meta"]["profile"]
        for found in OUTPUTS.values()
        if found["resourceType"] == "Observation"
    ]
    assert [URL + "device-reading"] in claims
    assert all(len(urls) == len(set(urls)) for urls in claims)


def test_a_reading_of_an_auxiliary_device_says_so_twice():
    for name, found in OUTPUTS.items():
        if found["resourceType"] == "Observation":
            is_tagged = any(t["code"] == "auxiliary" for t in found["meta"].get("tag", ()))
            assert is_tagged is (URL + "auxiliary-reading" in claimed(found)), name
    assert MAPPINGS.get("bracelet") is not None
