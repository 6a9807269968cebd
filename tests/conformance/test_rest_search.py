"""search: https://hl7.org/fhir/R4/search.html, as far as it is HTTP's."""

from urllib.parse import parse_qsl, urlsplit

import pytest
import requests


def links(bundle):
    return {link["relation"]: link["url"] for link in bundle["link"]}


def issues_of(bundle):
    return [
        issue
        for entry in bundle.get("entry", ())
        if entry["search"]["mode"] == "outcome"
        for issue in entry["resource"]["issue"]
    ]


@pytest.fixture(scope="module")
def family(client):
    """A patient with a doctor, a device, and five observations by it."""
    doctor = client.create({"resourceType": "Practitioner", "name": [{"family": "Botkin"}]})
    patient = client.create(
        {
            "resourceType": "Patient",
            "identifier": [{"system": "urn:family", "value": "a,b|c$d\u0416"}],
            "name": [{"family": "Pavlov"}],
            "generalPractitioner": [{"reference": f"Practitioner/{doctor['id']}"}],
        }
    )
    device = client.create({"resourceType": "Device", "patient": reference(patient)})
    observations = [
        client.create(
            {
                "resourceType": "Observation",
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
                "subject": reference(patient),
                "device": reference(device),
                "effectiveDateTime": f"2024-03-{day:02}T10:00:00Z",
                "valueQuantity": {"value": 60 + day, "unit": "/min"},
            }
        )
        for day in (3, 1, 5, 2, 4)
    ]
    return {
        "doctor": key(doctor),
        "patient": key(patient),
        "device": key(device),
        "observations": [key(o) for o in observations],
    }


def key(resource):
    return f"{resource['resourceType']}/{resource['id']}"


def reference(resource):
    return {"reference": key(resource)}


def test_entry_has_its_full_url_and_mode(client, family):
    bundle = client.get(f"Patient?_id={family['patient'].split('/')[1]}").json()
    (entry,) = bundle["entry"]
    assert bundle["type"] == "searchset"
    assert entry["fullUrl"] == f"{client.base}/{family['patient']}"
    assert entry["search"] == {"mode": "match"}
    assert "total" not in bundle


def test_self_link_lists_what_was_applied_and_only_that(client, family):
    query = f"subject={family['patient']}&nonsense=1&code=8867-4&_sort=-date&_count=2&status="
    bundle = client.get(f"Observation?{query}").json()
    applied = parse_qsl(urlsplit(links(bundle)["self"]).query)
    assert applied == [
        ("subject", family["patient"]),
        ("code", "8867-4"),
        ("_sort", "-date"),
        ("_count", "2"),
    ]
    ignored = issues_of(bundle)
    assert any("nonsense" in issue["diagnostics"] for issue in ignored)
    assert {issue["severity"] for issue in ignored} == {"warning"}


def test_values_survive_in_links(client, family):
    value = r"urn:family|a\,b\|c\$d" + "\u0416"
    bundle = client.get("Patient", params={"identifier": value}).json()
    assert len(bundle["entry"]) == 1
    again = requests.get(links(bundle)["self"], timeout=10).json()
    assert again["entry"] == bundle["entry"]


def test_unknown_parameter_is_refused_where_handling_is_strict(client):
    response = client.get("Patient?nonsense=1", headers={"Prefer": "handling=strict"})
    assert response.status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        "birthdate=nonsense",
        "name:nonsense=x",
        "_sort=",
        "_count=-1",
        "_count=x",
        "_filter=x",
        "_page=x",
        "_summary=x",
        "_total=x",
        "_include=x",
        "name=%00",
        "_has:x=1",
        "name:exact=" + "x," * 6_000,
        "&".join(["_sort=" + ",".join(["name", "birthdate"] * 250)]),
        "organization." * 30 + "name=x",
    ],
)
def test_search_that_means_nothing_is_refused(client, query):
    response = client.get(f"Patient?{query}", headers={"Prefer": "handling=strict"})
    assert response.status_code == 400, response.text[:300]
    assert client.issues(response)


def test_pages_hold_each_match_once_in_order(client, family):
    query = f"Observation?subject={family['patient']}&_sort=-date&_count=2"
    pages = list(client.pages(query))
    assert [len(page["entry"]) for page in pages] == [2, 2, 1]
    days = [e["resource"]["effectiveDateTime"][8:10] for page in pages for e in page["entry"]]
    assert days == ["05", "04", "03", "02", "01"]
    assert client.get(links(pages[2])["first"]).json()["entry"] == pages[0]["entry"]
    assert client.get(links(pages[1])["self"]).json()["entry"] == pages[1]["entry"]


def test_page_link_tells_nothing_of_what_was_searched(client, family):
    bundle = client.get(f"Observation?subject={family['patient']}&_count=1").json()
    url = links(bundle)["next"]
    assert family["patient"].split("/")[1] not in url
    assert [name for name, _ in parse_qsl(urlsplit(url).query)] == ["_page"]


def test_search_by_post_goes_on_by_get(client, family):
    form = {"subject": family["patient"], "_sort": "date", "_count": "2"}
    response = client.post("Observation/_search", data=form)
    assert response.status_code == 200
    following = requests.get(links(response.json())["next"], timeout=10).json()
    assert [e["resource"]["effectiveDateTime"][8:10] for e in following["entry"]] == ["03", "04"]


def test_search_by_post_adds_the_form_to_the_query(client, family):
    response = client.post(
        f"Observation/_search?subject={family['patient']}", data={"date": "2024-03-05"}
    )
    assert len(response.json()["entry"]) == 1
    response = client.post("Observation/_search", {"resourceType": "Parameters"})
    assert response.status_code == 400


def test_page_is_stable_while_others_write(client, unique):
    made = [
        key(
            client.create({"resourceType": "Patient", "name": [{"family": unique, "text": str(i)}]})
        )
        for i in range(6)
    ]
    seen = []
    for page in client.pages(f"Patient?family={unique}&_sort=family&_count=2"):
        seen += [key(e["resource"]) for e in page["entry"]]
        client.create({"resourceType": "Patient", "name": [{"family": unique}]})
        client.delete(made[-1])
        client.put(made[0], {"resourceType": "Patient", "id": made[0].split("/")[1]})
    assert sorted(seen) == sorted(made)


def test_count_of_zero_and_summary_count_give_the_total_alone(client, family):
    for query in ("_summary=count", "_count=0"):
        bundle = client.get(f"Observation?subject={family['patient']}&{query}").json()
        assert bundle["total"] == 5
        assert "entry" not in bundle
        assert set(links(bundle)) == {"self"}


def test_accurate_total_counts_matches_and_no_includes(client, family):
    query = f"subject={family['patient']}&_total=accurate&_count=2&_include=Observation:subject"
    totals = [page["total"] for page in client.pages(f"Observation?{query}")]
    assert totals == [5, 5, 5]


def test_included_resource_appears_once_and_counts_not(client, family):
    query = f"Observation?subject={family['patient']}&_count=3&_include=Observation:subject"
    first = next(iter(client.pages(query)))
    modes = [e["search"]["mode"] for e in first["entry"]]
    assert modes == ["match"] * 3 + ["include"]
    assert key(first["entry"][3]["resource"]) == family["patient"]


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ("Observation:device", ["device"]),
        ("Observation:patient", ["patient"]),
        ("Observation:subject:Patient", ["patient"]),
        ("Observation:subject:Device", []),
        ("Observation:*", ["device", "patient"]),
        ("*", ["device", "patient"]),
    ],
)
def test_include_follows_the_references_it_names(client, family, include, expected):
    query = f"Observation?subject={family['patient']}&_include={include}"
    assert sorted(client.found(query, "include")) == sorted(family[name] for name in expected)


def test_include_goes_on_where_it_iterates(client, family):
    query = (
        f"Observation?subject={family['patient']}&_include=Observation:subject"
        "&_include:iterate=Patient:general-practitioner"
    )
    assert sorted(client.found(query, "include")) == sorted([family["patient"], family["doctor"]])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("_revinclude=Observation:subject", "observations"),
        ("_revinclude=Observation:patient", "observations"),
        ("_revinclude=Observation:*", "observations"),
        ("_revinclude=Device:patient", "device"),
    ],
)
def test_revinclude_finds_what_refers(client, family, query, expected):
    patient_id = family["patient"].split("/")[1]
    expected = family[expected]
    found = client.found(f"Patient?_id={patient_id}&{query}", "include")
    assert sorted(found) == sorted([expected] if isinstance(expected, str) else expected)


def test_deleted_resource_is_neither_found_nor_included(client, unique):
    patient = client.create({"resourceType": "Patient", "name": [{"family": unique}]})
    device = client.create({"resourceType": "Device", "patient": reference(patient)})
    client.delete(key(patient))
    assert client.found(f"Patient?family={unique}") == []
    query = f"Device?_id={device['id']}&_include=Device:patient"
    assert client.found(query, "include") == []


def test_elements_are_kept_and_marked(client, family):
    query = f"Observation?subject={family['patient']}&_elements=effective&_include=Observation:*"
    for entry in client.get(query).json()["entry"]:
        resource = entry["resource"]
        assert resource["meta"]["tag"][-1]["code"] == "SUBSETTED"
        if entry["search"]["mode"] == "match":
            assert set(resource) == {
                "resourceType",
                "id",
                "meta",
                "effectiveDateTime",
                "status",
                "code",
            }


def test_page_over_the_limit_is_clamped(client):
    assert client.get("Patient?_count=999999").status_code == 200
