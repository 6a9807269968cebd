"""read, vread and history: https://hl7.org/fhir/R4/http.html#read."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
import requests

PATIENT = {"resourceType": "Patient", "gender": "female"}


@pytest.fixture(scope="module")
def stored(client):
    return client.create(PATIENT)


def test_read_gives_what_was_stored(client, stored):
    response = client.get(f"Patient/{stored['id']}")
    assert response.status_code == 200
    assert response.json() == stored
    assert response.headers["ETag"] == 'W/"1"'
    assert response.headers["Last-Modified"].endswith("GMT")


def test_trailing_slash_is_no_other_resource(client, stored):
    assert client.get(f"Patient/{stored['id']}/").json() == stored


@pytest.mark.parametrize(
    "path", ["Patient/none-such", "Patient/a_b", "patient/1", "PATIENT/1", "Pat/1", "Patient/%20"]
)
def test_what_is_not_there_is_not_found(client, path):
    response = client.get(path)
    assert response.status_code == 404
    assert client.issues(response)[0]["code"] == "not-found"


def test_mis_cased_type_is_not_found_for_every_interaction(client, stored):
    assert client.get("patient").status_code == 404
    assert client.post("patient", PATIENT).status_code == 404
    assert client.put("patient/1", {**PATIENT, "id": "1"}).status_code == 404
    assert client.delete("patient/1").status_code == 404
    assert client.get("patient/_history").status_code == 404
    assert client.get(f"patient/{stored['id']}/_history/1").status_code == 404


def test_if_none_match_of_the_current_version_is_not_modified(client, stored):
    path = f"Patient/{stored['id']}"
    response = client.get(path, headers={"If-None-Match": 'W/"1"'})
    assert response.status_code == 304
    assert response.content == b""
    assert response.headers["ETag"] == 'W/"1"'
    assert client.get(path, headers={"If-None-Match": 'W/"2"'}).status_code == 200


def test_if_modified_since_the_last_change_is_not_modified(client, stored):
    path = f"Patient/{stored['id']}"
    since = client.get(path).headers["Last-Modified"]
    assert client.get(path, headers={"If-Modified-Since": since}).status_code == 304
    before = "Sat, 01 Jan 2000 00:00:00 GMT"
    assert client.get(path, headers={"If-Modified-Since": before}).status_code == 200
    assert client.get(path, headers={"If-Modified-Since": "no date"}).status_code == 200


def test_second_change_within_a_second_is_told(client):
    stored = client.create(PATIENT)
    path = f"Patient/{stored['id']}"
    since = client.get(path).headers["Last-Modified"]
    changed = client.put(path, {**stored, "gender": "male"})
    if changed.headers["Last-Modified"] == since:
        assert client.get(path, headers={"If-Modified-Since": since}).status_code == 200


def test_head_mirrors_get(client, stored):
    path = f"Patient/{stored['id']}"
    get, head = client.get(path), client.send("HEAD", path)
    assert head.status_code == 200
    assert head.content == b""
    for name in ("ETag", "Last-Modified", "Content-Type", "Content-Length"):
        assert head.headers[name] == get.headers[name]
    assert client.send("HEAD", "Patient/none-such").status_code == 404


def test_vread_gives_every_version(client):
    first = client.create(PATIENT)
    path = f"Patient/{first['id']}"
    second = client.put(path, {**first, "gender": "male"}).json()
    assert client.get(f"{path}/_history/1").json() == first
    response = client.get(f"{path}/_history/2")
    assert response.json() == second
    assert response.headers["ETag"] == 'W/"2"'


@pytest.mark.parametrize("version_id", ["2", "0", "01", "-1", "abc", "9" * 30, "\u0661"])
def test_vread_of_no_version_is_not_found(client, stored, version_id):
    assert client.get(f"Patient/{stored['id']}/_history/{version_id}").status_code == 404


def test_elements_and_summary_keep_a_part_and_say_so(client):
    patient = {
        **PATIENT,
        "name": [{"family": "Ivanov"}],
        "birthDate": "1950-01-01",
        "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'},
        "communication": [{"language": {"text": "ru"}}],
    }
    stored = client.create(patient)
    path = f"Patient/{stored['id']}"
    named = client.get(f"{path}?_elements=gender,birthDate").json()
    assert set(named) == {"resourceType", "id", "meta", "gender", "birthDate"}
    assert named["meta"]["tag"][0]["code"] == "SUBSETTED"
    assert named["meta"]["versionId"] == "1"
    assert set(client.get(f"{path}?_summary=text").json()) == {
        "resourceType",
        "id",
        "meta",
        "text",
    }
    assert "text" not in client.get(f"{path}?_summary=data").json()
    summary = client.get(f"{path}?_summary=true").json()
    assert "name" in summary
    assert "communication" not in summary
    assert client.get(f"{path}?_summary=false").json() == stored
    assert client.get(f"{path}?_summary=some").status_code == 400


def test_history_of_an_instance_is_newest_first(client):
    stored = client.create(PATIENT)
    path = f"Patient/{stored['id']}"
    client.put(path, {**stored, "gender": "male"})
    client.delete(path)
    bundle = client.get(f"{path}/_history").json()
    assert bundle["type"] == "history"
    entries = bundle["entry"]
    assert [e["request"]["method"] for e in entries] == ["DELETE", "PUT", "POST"]
    assert [e["response"]["status"][:3] for e in entries] == ["204", "200", "201"]
    assert [e["response"]["etag"] for e in entries] == ['W/"3"', 'W/"2"', 'W/"1"']
    assert "resource" not in entries[0]
    assert entries[2]["resource"] == stored
    assert {e["fullUrl"] for e in entries} == {f"{client.base}/{path}"}


def test_history_of_nothing_is_not_found(client, unique):
    assert client.get(f"Patient/{unique}/_history").status_code == 404


@pytest.mark.parametrize("path", ["_history", "Patient/_history", "Patient/{id}/_history"])
def test_history_handled_strictly_refuses_what_it_does_not_know(client, path):
    path = path.format(id=client.create(PATIENT)["id"])
    strict = {"Prefer": "handling=strict"}
    assert client.get(f"{path}?_count=1", headers=strict).status_code == 200
    assert client.get(f"{path}?_count=1&status=final", headers=strict).status_code == 400
    bundle = client.get(f"{path}?_count=1&status=final").json()
    assert all("status=" not in link["url"] for link in bundle["link"])


@pytest.mark.parametrize("path", ["_history", "Patient/_history"])
def test_history_pages_show_every_version_once(client, path):
    made = [client.create(PATIENT)["id"] for _ in range(5)]
    began = client.get(f"Patient/{made[0]}").json()["meta"]["lastUpdated"]
    client.delete(f"Patient/{made[0]}")
    seen = []
    for bundle in client.pages(f"{path}?_count=2&_since={began}"):
        assert len(bundle["entry"]) <= 2
        seen += [(e["fullUrl"], e["response"]["etag"]) for e in bundle["entry"]]
        # What happens meanwhile belongs to another moment.
        client.create(PATIENT)
    assert len(seen) == len(set(seen)) == 6
    assert seen[0] == (f"{client.base}/Patient/{made[0]}", 'W/"2"')


def test_history_names_the_method_that_made_each_version(client, unique):
    path = f"Patient/{unique}"
    client.put(path, {**PATIENT, "id": unique})
    client.delete(path)
    client.put(path, {**PATIENT, "id": unique, "gender": "male"})
    entries = client.get(f"{path}/_history").json()["entry"]
    assert [e["request"] for e in entries] == [
        {"method": method, "url": path} for method in ("PUT", "DELETE", "PUT")
    ]
    assert [e["response"]["status"][:3] for e in entries] == ["201", "204", "201"]
    made = client.create(PATIENT)
    entries = client.get(f"Patient/{made['id']}/_history").json()["entry"]
    assert entries[0]["request"] == {"method": "POST", "url": "Patient"}


def test_history_oldest_first_is_a_feed_that_can_be_followed(client):
    made = [client.create(PATIENT) for _ in range(5)]
    began = made[0]["meta"]["lastUpdated"]
    seen = [
        entry["resource"]["id"]
        for bundle in client.pages(f"Patient/_history?_count=2&_since={began}&_sort=_lastUpdated")
        for entry in bundle["entry"]
    ]
    assert seen == [each["id"] for each in made]


def test_history_at_a_partial_date_is_what_was_current_in_it(client):
    made = client.create(PATIENT)
    path = f"Patient/{made['id']}"
    client.put(path, {**made, "gender": "male"})
    stored = datetime.fromisoformat(made["meta"]["lastUpdated"]).astimezone(
        ZoneInfo("Europe/Moscow")
    )
    years = [stored.year + n for n in (-1, 0, 1)]
    totals = [client.get(f"{path}/_history?_at={year}").json()["total"] for year in years]
    assert totals[0] == 0
    # What is current stays so, as far as anybody knows.
    assert totals[1:] == [2, 1]
    assert client.get(f"{path}/_history?_at=2001-02").json()["total"] == 0
    moment = made["meta"]["lastUpdated"]
    assert client.get(f"{path}/_history?_at={moment}").json()["total"] in (1, 2)


def test_history_links_list_what_was_applied(client):
    bundle = client.get(
        "Patient/_history?_count=3&cache-buster=1&_since=2020-01-01T00:00:00Z"
    ).json()
    links = {link["relation"]: link["url"] for link in bundle["link"]}
    assert links["self"] == (
        f"{client.base}/Patient/_history?_count=3&_since=2020-01-01T00:00:00Z"
    ).replace("00:00:00", "00:00:00")


@pytest.mark.parametrize(
    "query",
    [
        "_count=0",
        "_count=-1",
        "_count=x",
        "_count=\u0663",
        "_since=yesterday",
        "_since=2024",
        "_since=2024-01-01T00:00:00",
        "_since=0001-01-01T00:00:00%2B14:00",
        "_at=x",
        "_sort=name",
        "_list=1",
        "_page=x",
        "_page=",
    ],
)
def test_history_parameter_that_means_nothing_is_refused(client, query):
    assert client.get(f"Patient/_history?{query}").status_code == 400


def test_page_link_of_another_history_is_refused(client):
    client.create(PATIENT)
    client.create(PATIENT)
    bundle = client.get("Patient/_history?_count=1").json()
    token = next(li["url"] for li in bundle["link"] if li["relation"] == "next").split("_page=")[1]
    assert client.get(f"_history?_page={token}").status_code == 400
    assert client.get(f"Patient/_history?_page={token}").status_code == 200
    broken = ("A" if token[40] != "A" else "B").join((token[:40], token[41:]))
    assert client.get(f"Patient/_history?_page={broken}").status_code == 400


def test_link_works_without_anything_else(client, server):
    client.create(PATIENT)
    client.create(PATIENT)
    bundle = client.get("Patient/_history?_count=1").json()
    url = next(li["url"] for li in bundle["link"] if li["relation"] == "next")
    assert requests.get(url, timeout=10).json()["type"] == "history"
