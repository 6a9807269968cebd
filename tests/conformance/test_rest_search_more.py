"""Searches by words, filters, lists, value sets and hierarchies, and how one is explained."""

import pytest

GENDER = "http://hl7.org/fhir/administrative-gender"


@pytest.fixture(scope="module")
def word():
    return "quokka"


@pytest.fixture(scope="module")
def people(client, word):
    made = {}
    for name, gender, language in (("Anna", "female", "ru"), ("Boris", "male", "tt")):
        made[name] = client.create(
            {
                "resourceType": "Patient",
                "name": [{"family": word, "given": [name]}],
                "gender": gender,
                "communication": [
                    {"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": language}]}}
                ],
                "text": {
                    "status": "generated",
                    "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><b>{word}</b> {name}</div>',
                },
            }
        )["id"]
    return made


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("_text=quokka anna", ["Anna"]),
        ("_content=quokka NOT anna", ["Boris"]),
        ("_content=quok*&gender=male", ["Boris"]),
        ('_filter=family eq "quokka" and not (given eq boris)', ["Anna"]),
        (f"family=quokka&gender={GENDER}|male", ["Boris"]),
        ("family=quokka&gender:in=http://hl7.org/fhir/ValueSet/administrative-gender", None),
        ("family=quokka&language:not-in=urn:nowhere", 400),
        ("_text=%22quokka anna%22", 400),
        ("_filter=family like quokka", 400),
    ],
)
def test_people_are_found(client, people, query, expected):
    if expected == 400:
        response = client.get(f"Patient?{query}")
        assert response.status_code == 400, response.text
        assert client.issues(response)
        return
    names = sorted(people) if expected is None else expected
    assert client.found(f"Patient?{query}") == [f"Patient/{people[name]}" for name in names]


def test_a_value_set_that_is_stored_here_is_looked_up(client, people):
    system = {
        "resourceType": "CodeSystem",
        "url": "urn:ietf:bcp:47",
        "status": "active",
        "content": "fragment",
        "concept": [{"code": "sla", "concept": [{"code": "ru"}]}, {"code": "tt"}],
    }
    client.create(system)
    slavic = client.create(
        {
            "resourceType": "ValueSet",
            "url": "https://pmp.example/fhir/ValueSet/slavic",
            "status": "active",
            "compose": {
                "include": [
                    {
                        "system": "urn:ietf:bcp:47",
                        "filter": [{"property": "concept", "op": "is-a", "value": "sla"}],
                    }
                ]
            },
        }
    )
    anna, boris = f"Patient/{people['Anna']}", f"Patient/{people['Boris']}"
    for url in (
        slavic["url"],
        f"ValueSet/{slavic['id']}",
        f"{client.base}/ValueSet/{slavic['id']}",
    ):
        assert client.found(f"Patient?family=quokka&language:in={url}") == [anna]
        assert client.found(f"Patient?family=quokka&language:not-in={url}&_count=1") == [boris]
    assert client.found("Patient?family=quokka&language:below=urn:ietf:bcp:47|sla") == [anna]
    assert client.found("Patient?_filter=family eq quokka and language in " + slavic["url"]) == [
        anna
    ]


def test_a_list_finds_its_items(client, people):
    item = {"item": {"reference": f"Patient/{people['Boris']}"}}
    made = client.create(
        {"resourceType": "List", "status": "current", "mode": "working", "entry": [item]}
    )
    assert client.found(f"Patient?_list={made['id']}") == [f"Patient/{people['Boris']}"]
    assert client.get("Patient?_list=$current-problems").status_code == 400


def test_a_filter_can_be_a_condition(client, people):
    condition = {"If-None-Exist": '_filter=family eq "quokka" and given eq "anna"'}
    response = client.post("Patient", {"resourceType": "Patient"}, headers=condition)
    assert response.status_code == 200, response.text
    assert people["Anna"] in response.headers["Location"]


def test_pages_of_a_filter_go_on(client, people):
    found = client.found("Patient?_filter=family eq quokka&_count=1&_sort=-given")
    assert found == [f"Patient/{people['Boris']}", f"Patient/{people['Anna']}"]


def test_an_explanation_tells_indexes_and_no_values(client, people):
    response = client.get("Patient?family=quokka&gender=male&_sort=-birthdate&_explain=true")
    assert response.status_code == 200, response.text
    told = " ".join(issue["diagnostics"] for issue in client.issues(response))
    assert "SQLite" in told
    assert "INDEX" in told
    assert "quokka" not in told
