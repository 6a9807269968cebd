"""What one principal asked is never answered by what another may see."""

import asyncio
import dataclasses
import itertools
import json

import pytest

from fhir_server.core.search.query import Restriction
from fhir_server.errors import InvalidSearch
from fhir_server.interactions.context import ANYONE, Context, Principal
from fhir_server.interactions.search import search
from fhir_server.store.protocol import Page

SEARCHES = (
    "patient=Patient/a&code=urn:s|bp&_sort=-date&_count=2",
    "patient=Patient/a&code=urn:s|bp&date=ge2024-01-01&_sort=-date&_count=2",
    "patient=Patient/a&_sort=date",
    "patient=Patient/a&code=urn:s|bp",
    "code=urn:s|bp&_total=accurate",
)


class NoRules:
    """Everything is a resource, nothing is checked: a search validates nothing."""

    resource_types = frozenset({"Observation", "Patient"})

    def check(self, resource):
        return ()


def observation(number):
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": ("final", "preliminary", "amended")[number % 3],
        "code": {"coding": [{"system": "urn:s", "code": "bp"}]},
        "subject": {"reference": "Patient/a"},
        "effectiveDateTime": f"2024-03-{number + 1:02}T10:00:00Z",
    }


@pytest.fixture(name="contexts")
def make_contexts(driver):
    driver.write(*map(observation, range(9)))

    def only(status):
        criteria = driver.query(f"Observation?status={status}").criteria
        return Principal(status, Restriction((("Observation", criteria),)))

    # None of a kind of its own: what is hidden must not come from a plan of the other two.
    principals = (only("final"), only("preliminary"), only("cancelled"), ANYONE)
    return [
        Context(
            driver.store,
            driver.parameters,
            NoRules(),
            driver.clock,
            lambda: "id",
            base_url="http://a.example/fhir",
            principal=principal,
        )
        for principal in principals
    ]


def found(driver, ctx, text):
    params = tuple(tuple(pair.split("=", 1)) for pair in text.split("&"))
    body = json.loads(driver.run(search(ctx, "Observation", params)))
    return [entry["resource"]["status"] for entry in body.get("entry", ())], body.get("total")


@pytest.mark.parametrize("text", SEARCHES)
def test_the_same_search_shows_each_principal_their_own(driver, contexts, text):
    allowed = {"final": {"final"}, "preliminary": {"preliminary"}, "cancelled": set()}
    every = {"final", "preliminary", "amended"}
    totals = {"cancelled": 0, "anyone": 9}
    # In every order, so that whatever is remembered was made for each of them.
    for order in itertools.permutations(contexts):
        for ctx in order:
            statuses, total = found(driver, ctx, text)
            name = ctx.principal.name
            assert set(statuses) <= allowed.get(name, every)
            assert bool(statuses) is (name != "cancelled")
            if "_total" in text:
                assert total == totals.get(name, 3)


def test_what_is_remembered_of_one_principal_shows_another_nothing_more(driver, contexts):
    anyone = contexts[-1]

    def only(name, text):
        criteria = driver.query(f"Observation?{text}").criteria
        principal = Principal(name, Restriction((("Observation", criteria),)))
        return dataclasses.replace(anyone, principal=principal)

    # Criteria that the shortest way answers too: it is one for all of these.
    allowed = (
        (only("until the 3rd", "date=le2024-03-03"), 3),
        (only("until the 5th", "date=le2024-03-05"), 5),
        (only("of a", "patient=Patient/a"), 9),
        (only("of b", "patient=Patient/b"), 0),
        (only("of this code", "code=urn:s|bp"), 9),
        (only("of another code", "code=urn:s|other"), 0),
        (anyone, 9),
    )
    for text in ("patient=Patient/a&code=urn:s|bp", "patient=Patient/a", "code=urn:s|bp"):
        for order in (allowed, allowed[::-1], allowed):
            for ctx, number in order:
                statuses, _ = found(driver, ctx, f"{text}&_sort=-date&_count=20")
                assert len(statuses) == number


def test_principals_who_ask_at_once_are_kept_apart(driver, contexts):
    query = driver.query(f"Observation?{SEARCHES[0]}")

    async def ask(ctx) -> tuple[str, Page]:
        restricted = query._replace(restriction=ctx.principal.restriction)
        return ctx.principal.name, await driver.store.search(restricted)

    async def ask_all():
        return await asyncio.gather(*(ask(ctx) for _ in range(20) for ctx in contexts))

    for name, page in driver.run(ask_all()):
        statuses = {version.resource()["status"] for version in page.versions}
        assert statuses <= ({name} if name != "anyone" else {"final", "preliminary", "amended"})
        assert bool(statuses) is (name != "cancelled")


def test_a_page_link_of_one_principal_is_refused_to_another(driver, contexts):
    first, second, *_ = contexts
    params = tuple(tuple(pair.split("=", 1)) for pair in SEARCHES[0].split("&"))
    body = json.loads(driver.run(search(first, "Observation", params)))
    following = {link["relation"]: link["url"] for link in body["link"]}["next"]
    token = following.partition("_page=")[2]
    with pytest.raises(InvalidSearch, match="not a page link"):
        driver.run(search(second, "Observation", (("_page", token),)))
