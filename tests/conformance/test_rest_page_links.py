"""Page links: first, previous, next and self, of searches and histories.

https://hl7.org/fhir/R4/http.html#paging
"""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest
import requests

from fhir_server.app import open_components
from fhir_server.settings import Settings
from tests.conformance.conftest import Client, Server

MOST = 16_000


def links(bundle):
    return {link["relation"]: link["url"] for link in bundle["link"]}


def ids(bundle):
    return [entry["resource"]["id"] for entry in bundle["entry"]]


@pytest.fixture(scope="module")
def tag(client):
    for number in range(11):
        client.create(
            {
                "resourceType": "Patient",
                "name": [{"family": "ABCD"[number % 4]}],
                "meta": {"tag": [{"code": "page-links"}]},
                **({"birthDate": f"19{50 + number}-01-01"} if number % 3 else {}),
            }
        )
    return "page-links"


@pytest.mark.parametrize(
    "sort", ["", "&_sort=family", "&_sort=-birthdate", "&_sort=birthdate,-family", "&_sort=-_id"]
)
def test_previous_leads_back_to_the_first_page(client, tag, sort):
    pages = list(client.pages(f"Patient?_tag={tag}&_count=3{sort}"))
    assert [len(page["entry"]) for page in pages] == [3, 3, 3, 2]
    assert "previous" not in links(pages[0])
    page = pages[-1]
    for expected in reversed(pages[:-1]):
        page = client.get(links(page)["previous"]).json()
        assert ids(page) == ids(expected)
        assert ids(client.get(links(page)["first"]).json()) == ids(pages[0])
        assert ids(client.get(links(page)["self"]).json()) == ids(page)
        assert "next" in links(page)
    assert "previous" not in links(page)
    assert ids(client.get(links(page)["next"]).json()) == ids(pages[1])


def test_a_history_is_paged_both_ways(client, unique):
    for number in range(7):
        body = {"resourceType": "Patient", "id": unique, "name": [{"text": f"n{number}"}]}
        client.put(f"Patient/{unique}", body)
    pages = list(client.pages(f"Patient/{unique}/_history?_count=3"))
    versions = [[e["resource"]["meta"]["versionId"] for e in page["entry"]] for page in pages]
    assert versions == [["7", "6", "5"], ["4", "3", "2"], ["1"]]
    assert "previous" not in links(pages[0])
    middle = client.get(links(pages[2])["previous"]).json()
    assert middle["entry"] == pages[1]["entry"]
    first = client.get(links(middle)["previous"]).json()
    assert first["entry"] == pages[0]["entry"]
    assert "previous" not in links(first)
    assert client.get(links(middle)["first"]).json()["entry"] == pages[0]["entry"]


def test_the_total_is_that_of_the_first_page(client, unique):
    def create():
        client.create({"resourceType": "Patient", "meta": {"tag": [{"code": unique}]}})

    for _ in range(5):
        create()
    first = client.get(f"Patient?_tag={unique}&_count=2&_total=accurate").json()
    create()
    second = client.get(links(first)["next"]).json()
    back = client.get(links(second)["previous"]).json()
    assert [page["total"] for page in (first, second, back)] == [5, 5, 5]


def test_links_tell_nothing_of_the_question(client, unique):
    for _ in range(2):
        client.create({"resourceType": "Patient", "name": [{"family": f"Secret{unique}"}]})
    response = client.post("Patient/_search", data={"family": f"Secret{unique}", "_count": "1"})
    following = links(response.json())["next"]
    assert unique not in following
    assert "Secret" not in following
    assert client.get(following).status_code == 200
    for changed in (following[:-2] + "AA", following + "x", following.replace("Patient", "Basic")):
        assert client.get(changed).status_code == 400


def test_a_long_question_is_answered_and_its_links_are_short(client, unique):
    made = [client.create({"resourceType": "Basic", "code": {"text": "x"}})["id"] for _ in range(3)]
    # Random ids do not compress: a link that held them all would be 100 KB.
    random = [str(UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)) for n in range(4_500)]
    asked = {"_id": ",".join(made + random)}
    response = client.post("Basic/_search", data=asked)
    assert response.status_code == 200, response.text
    assert sorted(ids(response.json())) == sorted(made)
    assert all(len(url) <= MOST for url in links(response.json()).values())
    first = client.post("Basic/_search", data={**asked, "_count": "1", "_total": "accurate"}).json()
    pages = [first, *client.pages(links(first)["next"])]
    assert [ids(page) for page in pages] == [[each] for each in ids(response.json())]
    assert [page["total"] for page in pages] == [3, 3, 3]
    assert all(len(url) <= MOST for page in pages for url in links(page).values())
    back = client.get(links(pages[2])["previous"]).json()
    assert ids(back) == ids(pages[1])
    assert ids(client.get(links(back)["first"]).json()) == ids(first)
    assert client.get(links(first)["next"].replace("/Basic?", "/Patient?")).status_code == 400


def test_a_long_question_is_paged_by_any_server_until_its_links_expire(tmp_path):
    url, key = f"sqlite:///{tmp_path}/fhir.db", "a key that all of the servers have"
    long = ",".join(["p0", "p1", "p2", *(f"none-{n}" for n in range(2_000))])
    with Server(store=url, page_key=key) as server:
        client = Client(server)
        for number in range(3):
            client.put(f"Patient/p{number}", {"resourceType": "Patient", "id": f"p{number}"})
        question = {"_id": long, "_count": "1"}
        following = links(client.post("Patient/_search", data=question).json())["next"]
    with Server(store=url, page_key=key) as other:
        page = requests.get(other.url + following[following.index("/fhir") :], timeout=10)
        assert ids(page.json()) == ["p1"]
        purge(url)
        page = requests.get(other.url + following[following.index("/fhir") :], timeout=10)
        assert page.status_code == 410


def test_a_few_hundred_values_are_paged(client):
    made = [client.create({"resourceType": "Basic", "code": {"text": "x"}})["id"] for _ in range(3)]
    random = [str(UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)) for n in range(300)]
    response = client.post("Basic/_search", data={"_id": ",".join(made + random), "_count": "2"})
    following = links(response.json())["next"]
    assert len(following) <= MOST
    assert len(ids(client.get(following).json())) == 1


def purge(url):
    """Another process of the same store tidies up."""

    async def run():
        store = open_components(Settings(store=url)).store
        try:
            return await store.purge(datetime(2999, 1, 1, tzinfo=UTC))
        finally:
            await store.close()

    return asyncio.run(run())


def test_a_link_of_a_moment_that_is_gone_says_so(tmp_path):
    url = f"sqlite:///{tmp_path}/fhir.db"
    with Server(store=url) as server:
        client = Client(server)
        for number in range(3):
            client.put(f"Patient/p{number}", {"resourceType": "Patient", "id": f"p{number}"})
        of_a_type = links(client.get("Patient?_count=1").json())["next"]
        of_all = links(client.get("?_count=1").json())["next"]
        client.put("Patient/p2", {"resourceType": "Patient", "id": "p2", "active": True})
        assert client.get(of_a_type).status_code == 200
        assert purge(url) >= 1
        for expired in (of_a_type, of_all):
            response = client.get(expired)
            assert response.status_code == 410, response.text
            assert "expired" in client.issues(response)[0]["diagnostics"]
        assert client.get("Patient?_count=1").status_code == 200
