"""Templates of plans are stored at the first start, and are a clinic's from then on."""

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.interactions.context import Context
from fhir_server.operations.plan_templates import store_templates

TEMPLATE = {"resourceType": "PlanDefinition", "id": "t", "status": "active", "title": "shipped"}
KEY = ResourceKey("PlanDefinition", "t")


class NoRules:
    resource_types = frozenset({"PlanDefinition"})

    def check(self, resource):
        return ()


@pytest.fixture(name="start")
def make_start(driver):
    def start(store=None):
        ctx = Context(
            store or driver.store, driver.parameters, NoRules(), driver.clock, lambda: "id"
        )
        return driver.run(store_templates(ctx, [TEMPLATE]))

    return start


def stored(driver):
    """Version and title; no title of what is deleted."""
    version = driver.read(KEY)
    return version.version_id, None if version.body is None else version.resource()["title"]


def test_the_first_start_stores_them_and_no_other_does(driver, start):
    assert start() == 1
    assert start(driver.open_another()) == 0
    assert stored(driver) == (1, "shipped")


def test_an_edited_template_stays(driver, start):
    start()
    driver.write({**TEMPLATE, "title": "ours"})
    assert start() == 0
    assert stored(driver) == (2, "ours")


def test_a_deleted_template_stays_deleted(driver, start):
    start()
    driver.delete(KEY)
    assert start() == 0
    assert stored(driver) == (2, None)
