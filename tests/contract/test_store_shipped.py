"""Shipped definitions stand among the stored ones in every order, page by page, both ways."""

from dataclasses import replace

import pytest

from fhir_server.core.search.query import Total
from fhir_server.interactions import merged_search
from fhir_server.interactions.context import Context
from fhir_server.interactions.shipped import Shipped


def definition(name, **others):
    return {
        "resourceType": "OperationDefinition",
        "id": name,
        "url": f"urn:{name}",
        "name": name.title(),
        "status": "active",
        "kind": "operation",
        "code": name,
        "system": True,
        "type": False,
        "instance": False,
        **others,
    }


STORED = [
    definition("d", date="2021-05-01"),
    definition("b", status="draft"),
    definition("f", date="2023-05-01", kind="query"),
]
SHIPPED = [
    definition("a", date="2021-05-02"),
    definition("c", status="draft"),
    definition("e", date="2022-05-01"),
    definition("g", date="2022-05-01", status="retired"),
]
ORDERS = ["", "date", "-date", "name", "-_id", "status,-date", "-status,url", "_lastUpdated"]
ORDERS += ["-_lastUpdated"]


@pytest.fixture(name="ctx")
def make_context(driver):
    driver.write(*STORED)
    return Context(
        driver.store,
        driver.parameters,
        driver.definitions.validator,
        driver.clock,
        lambda: "id",
        shipped=Shipped(SHIPPED, driver.definitions.extension("Europe/Moscow").extend([]).indexer),
    )


def names(versions):
    return [version.key.resource_id for version in versions]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_pages_have_all_of_them_once_in_the_order_of_one_page(driver, ctx, order, size):
    query = driver.query(f"OperationDefinition?_sort={order}" if order else "OperationDefinition")
    whole = names(driver.run(merged_search.search(ctx, [query])).versions)
    assert sorted(whole) == list("abcdefg")

    query = query._replace(count=size)
    pages = [driver.run(merged_search.search(ctx, [query]))]
    while pages[-1].next is not None:
        onward = query._replace(after=pages[-1].next, as_of=pages[0].as_of)
        pages.append(driver.run(merged_search.search(ctx, [onward])))
        assert len(pages) < 9
    assert [name for page in pages for name in names(page.versions)] == whole

    for place in range(len(pages) - 1, 0, -1):
        back = query._replace(before=pages[place].previous, as_of=pages[0].as_of)
        found = driver.run(merged_search.search(ctx, [back]))
        assert names(found.versions) == names(pages[place - 1].versions)


@pytest.mark.parametrize("order", ORDERS[1:])
def test_the_order_is_the_one_they_would_have_if_all_were_stored(driver, ctx, order):
    mixed = names(
        driver.run(
            merged_search.search(ctx, [driver.query(f"OperationDefinition?_sort={order},_id")])
        ).versions
    )
    if "_lastUpdated" in order:
        older = [name for name in mixed if name in "aceg"]
        newer = [name for name in mixed if name in "bdf"]
        assert mixed == (newer + older if order.startswith("-") else older + newer)
        return
    driver.write(*SHIPPED)
    stored = replace(ctx, shipped=Shipped())
    query = driver.query(f"OperationDefinition?_sort={order},_id")
    assert names(driver.run(merged_search.search(stored, [query])).versions) == mixed


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ("url=urn:e", "e"),
        ("status=draft", "bc"),
        ("status:not=active", "bcg"),
        ("date=ge2022", "efg"),
        ("kind=query", "f"),
        ("_id=a,b", "ab"),
        ("name=zzz", ""),
    ],
)
def test_a_search_finds_and_counts_both_kinds(driver, ctx, criteria, expected):
    query = driver.query(f"OperationDefinition?{criteria}")._replace(total=Total.ACCURATE)
    page = driver.run(merged_search.search(ctx, [query]))
    assert sorted(names(page.versions)) == list(expected)
    assert page.total == len(expected)
