"""Observation/$lastn. https://hl7.org/fhir/R4/observation-operation-lastn.html."""

import pytest

LOINC, MDC = "http://loinc.org", "urn:iso:std:iso:11073:10101"


def measured(patient, when, *codes, category="vital-signs", **more):
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": "urn:category", "code": category}]}],
        "code": {"coding": [dict(zip(("system", "code"), code, strict=True)) for code in codes]},
        "subject": {"reference": patient},
        **({"effectiveDateTime": when} if when else {}),
        **more,
    }


@pytest.fixture
def patient(client):
    return f"Patient/{client.create({'resourceType': 'Patient'})['id']}"


def store(client, *resources):
    entry = [
        {"resource": each, "request": {"method": "POST", "url": "Observation"}}
        for each in resources
    ]
    response = client.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entry})
    assert response.status_code == 200, response.text
    return [each["response"]["location"].split("/")[-3] for each in response.json()["entry"]]


def lastn(client, patient, more="", **send):
    path = f"Observation/$lastn?patient={patient}&category=vital-signs{more}"
    response = client.get(path, **send)
    assert response.status_code == 200, response.text
    bundle = response.json()
    return [e["resource"]["id"] for e in bundle.get("entry", ()) if e["search"]["mode"] == "match"]


def test_the_newest_of_each_code(client, patient):
    ids = store(
        client,
        measured(patient, "2024-03-01", (LOINC, "pulse")),
        measured(patient, "2024-03-03", (LOINC, "pulse")),
        measured(patient, "2024-03-02", (LOINC, "pulse")),
        measured(patient, "2024-03-05", (LOINC, "weight")),
        measured(patient, "2024-03-04", (LOINC, "weight")),
        measured(patient, "2024-03-09", (LOINC, "weight"), category="laboratory"),
    )
    assert lastn(client, patient) == [ids[3], ids[1]]
    assert lastn(client, patient, "&max=2") == [ids[3], ids[4], ids[1], ids[2]]
    assert set(lastn(client, patient, "&max=50")) == set(ids[:5])


def test_observations_that_share_a_coding_are_of_one_kind(client, patient):
    ids = store(
        client,
        measured(patient, "2024-03-01", (LOINC, "8867-4"), (MDC, "147842")),
        measured(patient, "2024-03-02", (LOINC, "8867-4")),
        measured(patient, "2024-03-03", (MDC, "147842")),
    )
    assert lastn(client, patient) == [ids[2]]
    assert lastn(client, patient, "&max=2") == [ids[2], ids[1]]


def test_the_same_code_of_two_systems_is_two_kinds(client, patient):
    ids = store(
        client,
        measured(patient, "2024-03-01", (LOINC, "1")),
        measured(patient, "2024-03-02", (MDC, "1")),
    )
    assert lastn(client, patient) == [ids[1], ids[0]]


def test_a_code_of_text_alone_is_a_kind(client, patient):
    texts = [
        measured(patient, f"2024-03-0{n}") | {"code": {"text": text}}
        for n, text in enumerate(("Самочувствие", "самочувствие", "Mood"), 1)
    ]
    ids = store(client, *texts)
    assert lastn(client, patient) == [ids[2], ids[1]]


def test_ties_come_together(client, patient):
    ids = store(
        client,
        measured(patient, "2024-03-01T10:00:00Z", (LOINC, "a")),
        measured(patient, "2024-03-01T13:00:00+03:00", (LOINC, "a")),
        measured(patient, "2024-03-01T09:00:00Z", (LOINC, "a")),
        measured(patient, None, (LOINC, "b")),
        measured(patient, None, (LOINC, "b")),
    )
    found = lastn(client, patient)
    assert set(found[:2]) == set(ids[:2])
    assert len(found) == 3
    assert found[2] in ids[3:]


def test_a_kind_that_is_complete_is_passed_over_on_later_pages(client, patient):
    days = [f"2020-{1 + n // 28:02}-{1 + n % 28:02}T{n % 24:02}:00:00Z" for n in range(336)]
    many = [
        measured(patient, day.replace("2020", str(year)), (LOINC, "often"))
        for year in (2021, 2022)
        for day in days
    ]
    rare = measured(patient, "2020-01-01T00:00:00Z", (LOINC, "rare"))
    joined = measured(patient, "2019-01-01T00:00:00Z", (LOINC, "rare"), (LOINC, "more"))
    ids = store(client, *many, rare, joined)
    found = lastn(client, patient, "&max=3")
    assert found == [ids[671], ids[670], ids[669], ids[672], ids[673]]


def test_other_criteria_limit_what_is_looked_at(client, patient):
    ids = store(
        client,
        measured(patient, "2024-03-01", (LOINC, "a")),
        measured(patient, "2024-03-02", (LOINC, "a"), status="entered-in-error"),
        measured(patient, "2024-03-03", (LOINC, "b")),
    )
    assert lastn(client, patient, "&status=final") == [ids[2], ids[0]]
    assert lastn(client, patient, "&code=a&status:not=entered-in-error") == [ids[0]]
    path = f"Observation/$lastn?subject={patient}&code=b&_include=Observation:subject"
    modes = [entry["search"]["mode"] for entry in client.get(path).json()["entry"]]
    assert modes == ["match", "include"]


def test_it_is_called_by_post_too(client, patient):
    ids = store(client, measured(patient, "2024-03-01", (LOINC, "a")))
    response = client.post(
        "Observation/$lastn",
        {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "max", "valuePositiveInt": 2},
                {"name": "subject", "valueString": patient},
                {"name": "code", "valueString": f"{LOINC}|a"},
            ],
        },
    )
    assert [e["resource"]["id"] for e in response.json()["entry"]] == ids
    assert response.json()["total"] == 1


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("category=vital-signs", 400),
        ("patient=1", 400),
        ("patient=1&status=final", 400),
        ("patient=1&code=a&max=0", 400),
        ("patient=1&code=a&max=x", 400),
        ("patient=1&code=a&max=1&max=2", 400),
        ("patient=1&code-value-quantity=a$5", 200),
        ("patient.identifier=urn:x|1&category=a", 200),
        ("subject:Patient=1&category=a", 200),
    ],
)
def test_a_subject_and_a_category_or_code_are_needed(client, asked, status):
    assert client.get(f"Observation/$lastn?{asked}").status_code == status


def test_an_order_of_ones_own_is_told_to_be_ignored(client, patient):
    path = f"Observation/$lastn?patient={patient}&code=a&_sort=status"
    outcome = client.get(path).json()["entry"][0]
    assert outcome["search"]["mode"] == "outcome"
    assert client.get(path, headers={"Prefer": "handling=strict"}).status_code == 400
