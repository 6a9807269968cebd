"""System search. https://hl7.org/fhir/R4/http.html#search."""

import pytest


@pytest.fixture(scope="module")
def tagged(client):
    """Resources of three types under one tag, in the order they were made."""
    tag = "system-search"
    makers = [
        lambda n: {"resourceType": "Patient", "name": [{"family": f"F{n}"}]},
        lambda n: {
            "resourceType": "Observation",
            "status": "final",
            "code": {"text": "x"},
            **({"effectiveDateTime": f"2024-03-{10 - n:02}"} if n % 3 else {}),
        },
        lambda n: {
            "resourceType": "Encounter",
            "status": "finished",
            "class": {"code": "AMB"},
            "period": {"start": f"2024-03-{9 - n:02}", "end": f"2024-03-{9 - n:02}"},
        },
    ]
    made = []
    for number in range(9):
        resource = makers[number % 3](number) | {"meta": {"tag": [{"code": tag}]}}
        made.append(client.create(resource))
    return tag, [f"{each['resourceType']}/{each['id']}" for each in made]


def test_types_come_in_the_order_they_were_stored(client, tagged):
    tag, made = tagged
    assert client.found(f"?_tag={tag}&_count=2") == made
    assert client.found(f"?_tag={tag}&_count=4&_sort=-_lastUpdated") == made[::-1]
    of_two = [each for each in made if not each.startswith("Patient")]
    assert client.found(f"?_type=Observation,Encounter&_tag={tag}&_count=2") == of_two


def test_types_are_sorted_together_by_what_they_share(client, tagged):
    tag, _ = tagged
    asked = f"?_type=Observation,Encounter&_tag={tag}&_sort=date&_count=1"
    found = client.found(asked)
    dates = {}
    for path in found:
        resource = client.get(path).json()
        dates[path] = resource.get("effectiveDateTime") or resource.get("period", {}).get("start")
    expected = sorted((path for path in found if dates[path]), key=lambda path: dates[path])
    assert found == expected + [path for path in found if not dates[path]]
    assert len(found) == len(set(found)) == 6
    assert client.found(asked.replace("sort=date", "sort=_id")) == sorted(
        found, key=lambda path: path.split("/")[1]
    )


def test_the_way_back_is_the_way_there(client, tagged):
    tag, _ = tagged
    pages = list(client.pages(f"?_type=Patient,Observation&_tag={tag}&_sort=-_id&_count=2"))
    ids = [[entry["resource"]["id"] for entry in page["entry"]] for page in pages]
    back = []
    page = pages[-1]
    while True:
        back.insert(0, [entry["resource"]["id"] for entry in page["entry"]])
        links = {link["relation"]: link["url"] for link in page["link"]}
        if "previous" not in links:
            break
        page = client.get(links["previous"]).json()
    assert back == ids
    assert len(ids) == 3


def test_totals_add_up(client, tagged):
    tag, made = tagged
    bundle = client.get(f"?_tag={tag}&_total=accurate&_count=1").json()
    assert bundle["total"] == len(made)
    assert client.get(f"?_tag={tag}&_summary=count").json()["total"] == len(made)


def test_search_is_posted(client, tagged):
    tag, _ = tagged
    response = client.post("_search", data={"_tag": tag, "_type": "Patient", "_count": "1"})
    assert response.json()["entry"][0]["resource"]["resourceType"] == "Patient"


def test_a_parameter_that_a_type_does_not_have_limits_none(client, tagged):
    tag, _ = tagged
    lenient = client.get(f"?_type=Patient,Observation&_tag={tag}&family=F0").json()
    outcome = [e for e in lenient["entry"] if e["search"]["mode"] == "outcome"]
    assert "family" in outcome[0]["resource"]["issue"][0]["diagnostics"]
    assert len(lenient["entry"]) == 7
    own = {link["relation"]: link["url"] for link in lenient["link"]}["self"]
    assert "family" not in own
    assert "_type=Patient,Observation" in own
    strict = client.get(
        "?_type=Patient,Observation&family=F0", headers={"Prefer": "handling=strict"}
    )
    assert strict.status_code == 400


def test_includes_start_from_the_types_that_are_searched(client, tagged, unique):
    patient = client.create({"resourceType": "Patient"})
    observation = client.create(
        {
            "resourceType": "Observation",
            "status": "final",
            "code": {"text": "x"},
            "subject": {"reference": f"Patient/{patient['id']}"},
            "meta": {"tag": [{"code": unique}]},
        }
    )
    path = f"?_type=Observation,Encounter&_tag={unique}&_include=Observation:subject"
    assert client.found(path) == [f"Observation/{observation['id']}"]
    assert client.found(path, "include") == [f"Patient/{patient['id']}"]
    wrong = client.get(f"?_type=Observation&_tag={unique}&_include=Patient:organization")
    assert wrong.status_code == 400


@pytest.mark.parametrize("asked", ["_type=Nonsense", "_type=patient", "_type=", "_type=,"])
def test_types_that_are_none_are_refused(client, asked):
    assert client.get(f"?{asked}").status_code == 400


def test_a_key_of_two_kinds_orders_nothing(client):
    # A manufacturer is a text of a Device and a reference of a Medication.
    assert client.get("?_type=Device,Medication&_sort=manufacturer").status_code == 400
    assert client.get("?_type=Device,Medication&_sort=_id,status").status_code == 200
