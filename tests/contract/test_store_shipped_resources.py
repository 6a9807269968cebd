"""What is stored at a start: templates are a clinic's, the text of a profile is the shipped one."""

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.interactions.context import Context
from fhir_server.operations.shipped_resources import store_shipped

TEMPLATE = {"resourceType": "PlanDefinition", "id": "t", "status": "active", "title": "shipped"}
PROFILE = {"resourceType": "StructureDefinition", "id": "s", "status": "active", "title": "shipped"}
BOTH = ResourceKey("PlanDefinition", "t"), ResourceKey("StructureDefinition", "s")


class NoRules:
    resource_types = frozenset({"PlanDefinition", "StructureDefinition"})

    def check(self, resource):
        return ()


@pytest.fixture(name="start")
def make_start(driver):
    def start(store=None, profile=PROFILE):
        ctx = Context(
            store or driver.store, driver.parameters, NoRules(), driver.clock, lambda: "id"
        )
        return driver.run(store_shipped(ctx, [TEMPLATE], [profile]))

    return start


def stored(driver):
    """Version and title of the template and the profile; no title of what is deleted."""
    versions = [driver.read(key) for key in BOTH]
    return [(v.version_id, None if v.body is None else v.resource()["title"]) for v in versions]


def test_the_first_start_stores_them_and_no_other_does(driver, start):
    assert start() == 2
    assert start(driver.open_another()) == 0
    assert stored(driver) == [(1, "shipped"), (1, "shipped")]


def test_an_edited_template_stays_and_an_edited_profile_is_written_anew(driver, start):
    start()
    driver.write({**TEMPLATE, "title": "ours"}, {**PROFILE, "title": "ours"})
    assert start() == 1
    assert stored(driver) == [(2, "ours"), (3, "shipped")]


def test_a_deleted_template_stays_deleted_and_a_deleted_profile_comes_back(driver, start):
    start()
    for key in BOTH:
        driver.delete(key)
    assert start() == 1
    assert stored(driver) == [(2, None), (3, "shipped")]


def test_another_release_brings_its_own_text(driver, start):
    start()
    assert start(profile={**PROFILE, "title": "newer"}) == 1
    assert stored(driver) == [(1, "shipped"), (2, "newer")]
