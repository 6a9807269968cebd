"""Patient/$everything. https://hl7.org/fhir/R4/patient-operation-everything.html."""

import time

import pytest


def observation(patient, **more):
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": patient},
        **more,
    }


@pytest.fixture(scope="module")
def record(client):
    """A record of two years, and somebody else's that touches it."""
    of = {}

    def make(name, resource):
        of[name] = f"{resource['resourceType']}/{client.create(resource)['id']}"

    make("clinic", {"resourceType": "Organization", "name": "Clinic"})
    make("doctor", {"resourceType": "Practitioner"})
    make("cuff", {"resourceType": "Device", "owner": {"reference": of["clinic"]}})
    make(
        "patient",
        {"resourceType": "Patient", "generalPractitioner": [{"reference": of["doctor"]}]},
    )
    make("other", {"resourceType": "Patient"})
    for number in range(6):
        year = 2023 + number // 3
        make(
            f"o{number}",
            observation(
                of["patient"],
                device={"reference": of["cuff"]},
                effectiveDateTime=f"{year}-0{1 + number}-10T08:00:00Z",
            ),
        )
    make("undated", observation(of["patient"]))
    make(
        "condition",
        {
            "resourceType": "Condition",
            "subject": {"reference": of["patient"]},
            "onsetDateTime": "1999",
            "asserter": {"reference": of["other"]},
        },
    )
    make("not-ours", observation(of["other"]))
    return of


def test_the_record_is_whole(client, record):
    found = client.found(f"{record['patient']}/$everything")
    ours = {record[n] for n in ("patient", "undated", "condition", *(f"o{n}" for n in range(6)))}
    assert set(found) == ours
    assert len(found) == len(ours)


def test_what_it_refers_to_comes_along_and_no_other_patient(client, record):
    included = client.found(f"{record['patient']}/$everything", "include")
    assert set(included) == {record["doctor"], record["cuff"], record["clinic"]}
    assert record["other"] not in included


def test_each_comes_once_over_all_pages(client, record):
    path = f"{record['patient']}/$everything?_count=2"
    found = client.found(path)
    assert len(found) == len(set(found)) == 9
    pages = list(client.pages(path))
    assert len(pages) == 5
    back = {link["relation"]: link["url"] for link in pages[-1]["link"]}["previous"]
    assert client.get(back).json()["entry"] == pages[-2]["entry"]


def test_pages_are_of_the_moment_they_began(client, record):
    first = client.get(f"{record['patient']}/$everything?_count=5").json()
    late = client.create(observation(record["patient"]))
    following = {link["relation"]: link["url"] for link in first["link"]}["next"]
    found = client.found(following)
    assert f"Observation/{late['id']}" not in found
    assert client.delete(f"Observation/{late['id']}").status_code == 204


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("start=2024-01-01", {"o3", "o4", "o5"}),
        ("end=2023", {"o0", "o1", "o2"}),
        ("start=2023-02-01&end=2024-04-30", {"o1", "o2", "o3"}),
    ],
)
def test_care_dates_limit_what_has_one(client, record, asked, names):
    found = set(client.found(f"{record['patient']}/$everything?{asked}&_count=2"))
    always = {record[name] for name in ("patient", "undated", "condition")}
    assert found == always | {record[name] for name in names}


def test_types_are_chosen(client, record):
    path = f"{record['patient']}/$everything?_type=Observation,Device&_count=3"
    assert len(client.found(path)) == 7
    assert set(client.found(path, "include")) == {record["cuff"]}
    for wrong in ("Practitioner", "Nonsense", ""):
        response = client.get(f"{record['patient']}/$everything?_type={wrong}")
        assert response.status_code == 400


def test_since_is_when_it_was_stored(client):
    patient = client.create({"resourceType": "Patient"})
    time.sleep(0.01)
    later = client.create(observation(f"Patient/{patient['id']}"))
    since = later["meta"]["lastUpdated"]
    found = client.found(f"Patient/{patient['id']}/$everything?_since={since}")
    assert found == [f"Observation/{later['id']}"]


def test_it_is_called_by_post_too(client, record):
    response = client.post(
        f"{record['patient']}/$everything",
        {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "start", "valueDate": "2024-01-01"},
                {"name": "_type", "valueCode": "Observation"},
                {"name": "_count", "valueInteger": 2},
            ],
        },
    )
    assert response.status_code == 200, response.text
    bundle = response.json()
    links = {link["relation"]: link["url"] for link in bundle["link"]}
    found = [e["resource"]["id"] for e in bundle["entry"] if e["search"]["mode"] == "match"]
    found += [path.split("/")[1] for path in client.found(links["next"])]
    assert len(found) == len(set(found)) == 4


def test_who_is_not_there_has_no_record(client):
    assert client.get("Patient/nobody/$everything").status_code == 404
    gone = client.create({"resourceType": "Patient"})["id"]
    client.delete(f"Patient/{gone}")
    assert client.get(f"Patient/{gone}/$everything").status_code == 410


@pytest.mark.parametrize("asked", ["start=yesterday", "end=2024-13", "_since=now", "_count=x"])
def test_inputs_that_mean_nothing_are_refused(client, record, asked):
    response = client.get(f"{record['patient']}/$everything?{asked}")
    assert response.status_code == 400
    name = asked.split("=")[0]
    assert name in client.issues(response)[0]["diagnostics"]


@pytest.mark.parametrize(
    "path", ["Observation/1/$everything", "Patient/$everything", "$everything", "Patient/1/$x"]
)
def test_an_operation_is_where_it_is_defined(client, path):
    assert client.get(path).status_code == 404
