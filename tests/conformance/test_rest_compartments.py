"""Compartments. https://hl7.org/fhir/R4/compartmentdefinition.html."""

import pytest


@pytest.fixture(scope="module")
def ward(client):
    """Two patients with their records, and who treats them."""
    of = {}
    for name in ("anna", "boris"):
        of[name] = f"Patient/{client.create({'resourceType': 'Patient'})['id']}"
    of["doctor"] = f"Practitioner/{client.create({'resourceType': 'Practitioner'})['id']}"
    of["cuff"] = f"Device/{client.create({'resourceType': 'Device'})['id']}"
    of["sister"] = (
        "RelatedPerson/"
        + client.create({"resourceType": "RelatedPerson", "patient": {"reference": of["anna"]}})[
            "id"
        ]
    )
    of["visit"] = (
        "Encounter/"
        + client.create(
            {
                "resourceType": "Encounter",
                "status": "finished",
                "class": {"code": "AMB"},
                "subject": {"reference": of["anna"]},
                "participant": [{"individual": {"reference": of["sister"]}}],
            }
        )["id"]
    )
    for number in range(7):
        name = "anna" if number < 5 else "boris"
        of[f"o{number}"] = (
            "Observation/"
            + client.create(
                {
                    "resourceType": "Observation",
                    "status": "final",
                    "code": {"coding": [{"system": "urn:c", "code": "ab"[number % 2]}]},
                    "subject": {"reference": of[name]},
                    "device": {"reference": of["cuff"]},
                    "performer": [{"reference": of["doctor"]}],
                    "effectiveDateTime": f"2024-03-0{1 + number}",
                    **({"encounter": {"reference": of["visit"]}} if number == 0 else {}),
                }
            )["id"]
        )
    of["of-boris-by-anna"] = (
        "Observation/"
        + client.create(
            {
                "resourceType": "Observation",
                "status": "final",
                "code": {"text": "told"},
                "subject": {"reference": of["boris"]},
                "performer": [{"reference": of["anna"]}],
            }
        )["id"]
    )
    return of


def test_a_type_of_a_compartment_is_searched(client, ward):
    found = client.found(f"{ward['anna']}/Observation?code=urn:c|a")
    assert sorted(found) == sorted([ward["o0"], ward["o2"], ward["o4"]])


def test_whatever_refers_by_one_of_its_parameters_belongs(client, ward):
    assert ward["of-boris-by-anna"] in client.found(f"{ward['anna']}/Observation")
    assert ward["of-boris-by-anna"] in client.found(f"{ward['boris']}/Observation")


@pytest.mark.parametrize(
    ("whose", "member", "count"),
    [
        ("cuff", "Observation", 7),
        ("doctor", "Observation", 7),
        ("visit", "Observation", 1),
        ("sister", "Encounter", 1),
        ("anna", "RelatedPerson", 1),
        ("anna", "Encounter", 1),
    ],
)
def test_every_compartment_of_r4_is_there(client, ward, whose, member, count):
    assert len(client.found(f"{ward[whose]}/{member}")) == count


def test_a_resource_is_in_its_own_compartment(client, ward):
    assert client.found(f"{ward['anna']}/Patient") == [ward["anna"]]
    assert ward["visit"] in client.found(f"{ward['visit']}/*")


def test_star_is_all_that_belongs(client, ward):
    found = client.found(f"{ward['anna']}/*?_count=3")
    assert len(found) == len(set(found))
    expected = {ward[name] for name in ("anna", "sister", "visit", "of-boris-by-anna")}
    assert set(found) == expected | {ward[f"o{n}"] for n in range(5)}
    of_types = client.found(f"{ward['anna']}/*?_type=Encounter,Patient")
    assert set(of_types) == {ward["anna"], ward["visit"]}


def test_includes_and_sort_work_in_a_compartment(client, ward):
    path = f"{ward['anna']}/Observation?_sort=-date&_include=Observation:device&_count=2"
    found = client.found(path)
    assert found[:5] == [ward[f"o{n}"] for n in (4, 3, 2, 1, 0)]
    assert client.found(path, "include")[0] == ward["cuff"]


def test_a_compartment_is_searched_by_post(client, ward):
    response = client.post(
        f"{ward['anna']}/Observation/_search", data={"code": "urn:c|a", "_count": "2"}
    )
    assert response.status_code == 200
    links = {link["relation"]: link["url"] for link in response.json()["link"]}
    assert len(response.json()["entry"]) == 2
    assert len(client.get(links["next"]).json()["entry"]) == 1


@pytest.mark.parametrize(
    "path",
    [
        "{anna}/Practitioner",
        "{anna}/StructureDefinition",
        "{cuff}/Patient",
        "Organization/1/Patient",
        "{anna}/observation",
        "{anna}/Nonsense",
        "Nonsense/1/Observation",
    ],
)
def test_a_type_outside_a_compartment_is_an_error(client, ward, path):
    response = client.get(path.format(**ward))
    assert response.status_code == 404
    assert client.issues(response)[0]["code"] == "not-found"


def test_a_bundle_may_ask_for_a_compartment(client, ward):
    for kind in ("batch", "transaction"):
        response = client.post(
            "",
            {
                "resourceType": "Bundle",
                "type": kind,
                "entry": [
                    {"request": {"method": "GET", "url": f"{ward['anna']}/Observation?code=a"}},
                    {"request": {"method": "GET", "url": f"{ward['anna']}/$everything"}},
                    {"request": {"method": "GET", "url": "?_type=Practitioner&_count=1"}},
                ],
            },
        )
        assert response.status_code == 200, response.text
        found = [entry["resource"] for entry in response.json()["entry"]]
        assert [bundle["type"] for bundle in found] == ["searchset"] * 3
        assert len(found[0]["entry"]) == 3
        assert found[2]["entry"][0]["resource"]["resourceType"] == "Practitioner"


def test_the_statement_names_the_compartments(client):
    (rest,) = client.get("metadata").json()["rest"]
    assert rest["compartment"] == [
        f"http://hl7.org/fhir/CompartmentDefinition/{name}"
        for name in ("device", "encounter", "patient", "practitioner", "relatedperson")
    ]
