"""Terminology operations over HTTP. https://hl7.org/fhir/R4/terminology-service.html"""

import pytest

from tests.conformance.terminology_requests import (
    ADMINISTRATIVE,
    STATUS,
    UCUM,
    animals,
    codes,
    outputs,
    parameters,
    value_set,
)


def test_lookup_tells_what_a_code_means(client, unique):
    client.create(animals(unique))
    query = {"system": f"urn:{unique}", "code": "cat"}
    found = outputs(client.get("CodeSystem/$lookup", params=query))
    assert (found["name"], found["version"], found["display"]) == ("Animals", "1", "Cat")
    russian = client.get("CodeSystem/$lookup", params={**query, "displayLanguage": "ru"})
    assert outputs(russian)["display"] == "Кошка"
    only = client.get("CodeSystem/$lookup", params={**query, "property": "child"}).json()
    parts = [each["part"] for each in only["parameter"] if each["name"] == "property"]
    assert [part[1]["valueCode"] for part in parts] == ["lynx", "manx"]


def test_lookup_of_a_coding_by_post(client):
    coding = {"system": ADMINISTRATIVE, "code": "male"}
    response = client.post("CodeSystem/$lookup", parameters(coding__valueCoding=coding))
    assert outputs(response)["display"] == "Male"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"system": "urn:nowhere", "code": "x"}, 404),
        ({"system": ADMINISTRATIVE, "code": "x"}, 404),
        ({"system": ADMINISTRATIVE, "version": "9", "code": "male"}, 404),
        ({"code": "male"}, 400),
        ({"system": ADMINISTRATIVE}, 400),
        ({"system": ADMINISTRATIVE, "code": "male", "other": "1"}, 400),
    ],
)
def test_lookup_of_what_is_not_known_says_so(client, query, status):
    response = client.get("CodeSystem/$lookup", params=query)
    assert response.status_code == status
    assert client.issues(response)


@pytest.mark.parametrize(
    ("left", "right", "outcome"),
    [
        ("cat", "cat", "equivalent"),
        ("cat", "lynx", "subsumes"),
        ("lynx", "cat", "subsumed-by"),
        ("lynx", "manx", "not-subsumed"),
    ],
)
def test_subsumes(client, unique, left, right, outcome):
    stored = client.create(animals(unique))
    pair = {"codeA": left, "codeB": right}
    of_type = client.get("CodeSystem/$subsumes", params={"system": f"urn:{unique}", **pair})
    of_instance = client.get(f"CodeSystem/{stored['id']}/$subsumes", params=pair)
    assert outputs(of_type) == outputs(of_instance) == {"outcome": outcome}


@pytest.mark.parametrize(
    ("query", "result"),
    [
        ({"code": "cat"}, True),
        ({"code": "dodo"}, True),
        ({"code": "cat", "display": "cat"}, True),
        ({"code": "cat", "display": "Кошка"}, True),
        ({"code": "cat", "display": "Dog"}, False),
        ({"code": "dog"}, False),
        ({"code": "Cat"}, False),
        ({"code": "group"}, False),
        ({"code": "group", "abstract": "true"}, True),
    ],
)
def test_validate_code_of_a_code_system(client, unique, query, result):
    stored = client.create(animals(unique))
    response = client.get("CodeSystem/$validate-code", params={"url": f"urn:{unique}", **query})
    assert outputs(response)["result"] is result
    of_instance = client.get(f"CodeSystem/{stored['id']}/$validate-code", params=query)
    assert outputs(of_instance)["result"] is result


@pytest.mark.parametrize(
    ("code", "result"),
    [("mm[Hg]", True), ("mmol/L", True), ("{steps}", True), ("mmHg", False), ("", False)],
)
def test_ucum_units_are_known_by_their_grammar(client, code, result):
    coding = {"system": UCUM, "code": code or "//"}
    for url in ("CodeSystem/$validate-code", "ValueSet/$validate-code"):
        target = UCUM if url.startswith("Code") else f"{UCUM}/vs"
        body = parameters(url__valueUri=target, coding__valueCoding=coding)
        assert outputs(client.post(url, body))["result"] is result


@pytest.mark.parametrize(
    ("query", "result"),
    [
        ({"code": "final"}, True),
        ({"code": "final", "system": "http://hl7.org/fhir/observation-status"}, True),
        ({"code": "final", "system": "urn:other"}, False),
        ({"code": "over"}, False),
    ],
)
def test_validate_code_of_a_value_set(client, query, result):
    for url in (STATUS, f"{STATUS}|4.0.1"):
        found = client.get("ValueSet/$validate-code", params={"url": url, **query})
        assert outputs(found)["result"] is result
    pinned = client.get(
        "ValueSet/$validate-code", params={"url": STATUS, "valueSetVersion": "3.0", **query}
    )
    assert pinned.status_code == 404


def test_a_concept_is_valid_when_one_of_its_codings_is(client):
    concept = {
        "coding": [
            {"system": "urn:other", "code": "1"},
            {"system": "http://hl7.org/fhir/observation-status", "code": "final"},
        ]
    }
    body = parameters(url__valueUri=STATUS, codeableConcept__valueCodeableConcept=concept)
    assert outputs(client.post("ValueSet/$validate-code", body))["code"] == "final"


def test_expand_filters_and_pages(client, unique):
    client.create(animals(unique))
    stored = client.create(value_set(unique, {"system": f"urn:{unique}"}))
    url = f"urn:{unique}:set"

    def expand(**query):
        return client.get("ValueSet/$expand", params={"url": url, **query})

    everything = ["cat", "lynx", "manx", "dodo"]
    assert codes(expand()) == everything
    assert codes(client.get(f"ValueSet/{stored['id']}/$expand")) == everything
    page = expand(count=2, offset=1)
    assert codes(page) == ["lynx", "manx"]
    assert page.json()["expansion"]["total"] == 4
    assert codes(expand(count=0)) == []
    assert codes(expand(filter="YN")) == ["lynx"]
    assert codes(expand(filter="кош")) == ["cat"]
    assert codes(expand(activeOnly="true")) == everything[:3]
    cat = expand(includeDesignations="true", displayLanguage="ru").json()["expansion"]["contains"]
    assert cat[0]["display"] == "Кошка"
    assert cat[0]["designation"] == [{"language": "ru", "value": "Кошка"}]
    assert expand(count="-1").status_code == 400
    assert "compose" not in expand().json()
    assert "compose" in expand(includeDefinition="true").json()


def test_expand_of_a_set_that_comes_along(client, unique):
    client.create(animals(unique))
    asked = value_set(
        unique,
        {"system": f"urn:{unique}"},
        {"valueSet": [STATUS]},
        exclude=[
            {
                "system": f"urn:{unique}",
                "filter": [{"property": "concept", "op": "is-a", "value": "cat"}],
            }
        ],
    )
    found = client.post("ValueSet/$expand", parameters(valueSet__resource=asked))
    assert codes(found)[:2] == ["dodo", "registered"]
    query = {"count": "1"}
    assert codes(
        client.post("ValueSet/$expand", parameters(valueSet__resource=asked), params=query)
    )


def test_a_stored_definition_counts_at_once(client, unique):
    query = {"system": f"urn:{unique}", "code": "cat"}
    assert client.get("CodeSystem/$lookup", params=query).status_code == 404
    stored = client.create(animals(unique))
    assert outputs(client.get("CodeSystem/$lookup", params=query))["display"] == "Cat"
    stored["concept"][0]["display"] = "House cat"
    client.put(f"CodeSystem/{stored['id']}", stored)
    assert outputs(client.get("CodeSystem/$lookup", params=query))["display"] == "House cat"
    client.delete(f"CodeSystem/{stored['id']}")
    assert client.get("CodeSystem/$lookup", params=query).status_code == 404


def test_a_version_can_be_pinned(client, unique):
    client.create(animals(unique))
    client.create(animals(unique, version="2", concept=[{"code": "dog"}]))
    include = {"system": f"urn:{unique}", "version": "1"}
    client.create(value_set(unique, include))
    url = f"urn:{unique}:set"
    assert "cat" in codes(client.get("ValueSet/$expand", params={"url": url}))
    forced = {"url": url, "force-system-version": f"urn:{unique}|2"}
    assert codes(client.get("ValueSet/$expand", params=forced)) == ["dog"]
    checked = {"url": url, "check-system-version": f"urn:{unique}|2"}
    assert client.get("ValueSet/$expand", params=checked).status_code == 400


@pytest.mark.parametrize(
    ("include", "status"),
    [
        ({"system": "http://snomed.info/sct"}, 422),
        (
            {
                "system": "http://snomed.info/sct",
                "filter": [{"property": "concept", "op": "is-a", "value": "49062001"}],
            },
            422,
        ),
        ({"valueSet": ["urn:nowhere"]}, 404),
        ({"system": "s", "concept": [{"code": str(n)} for n in range(10_001)]}, 422),
    ],
)
def test_what_cannot_be_told_is_refused_and_not_guessed(client, unique, include, status):
    client.create(value_set(unique, include))
    response = client.get("ValueSet/$expand", params={"url": f"urn:{unique}:set"})
    assert response.status_code == status
    assert client.issues(response)


def test_a_set_made_of_itself_is_refused(client, unique):
    client.create(value_set(unique, {"valueSet": [f"urn:{unique}:set"]}))
    response = client.get("ValueSet/$expand", params={"url": f"urn:{unique}:set"})
    assert response.status_code == 400


def test_a_hostile_expression_takes_no_time(client, unique):
    concepts = [{"code": "a" * 5_000}]
    client.create(animals(unique, concept=concepts))
    hostile = {"property": "code", "op": "regex", "value": "(a+)+b"}
    client.create(value_set(unique, {"system": f"urn:{unique}", "filter": [hostile]}))
    response = client.get("ValueSet/$expand", params={"url": f"urn:{unique}:set"})
    assert codes(response) == []
    assert response.elapsed.total_seconds() < 5


def test_translate_there_and_back(client, unique):
    group = {
        "source": "urn:here",
        "target": "urn:there",
        "element": [
            {"code": "1", "target": [{"code": "a", "display": "A", "equivalence": "wider"}]},
            {"code": "2", "target": [{"equivalence": "unmatched", "comment": "not found"}]},
        ],
    }
    stored = client.create(
        {
            "resourceType": "ConceptMap",
            "url": f"urn:{unique}",
            "status": "active",
            "group": [group],
        }
    )
    there = {"url": f"urn:{unique}", "system": "urn:here", "code": "1"}
    response = client.get("ConceptMap/$translate", params=there)
    assert outputs(response)["result"] is True
    (match,) = [each["part"] for each in response.json()["parameter"] if each["name"] == "match"]
    assert match[0]["valueCode"] == "wider"
    assert match[1]["valueCoding"] == {"system": "urn:there", "code": "a", "display": "A"}
    back = {"system": "urn:there", "code": "a", "reverse": "true"}
    response = client.get(f"ConceptMap/{stored['id']}/$translate", params=back)
    (match,) = [each["part"] for each in response.json()["parameter"] if each["name"] == "match"]
    assert match[0]["valueCode"] == "narrower"
    assert match[1]["valueCoding"]["code"] == "1"
    none = client.get("ConceptMap/$translate", params={**there, "code": "2"})
    assert outputs(none)["result"] is False
    assert outputs(none)["message"] == "not found"


def test_closure_tells_what_is_new_and_can_be_resumed(client, unique):
    client.create(animals(unique))

    def close(*wanted, **more):
        body = parameters(name__valueString=unique, **more)
        for code in wanted:
            coding = {"system": f"urn:{unique}", "code": code}
            body["parameter"].append({"name": "concept", "valueCoding": coding})
        response = client.post("$closure", body)
        assert response.status_code == 200, response.text
        found = response.json()
        relations = {
            (element["code"], target["code"], target["equivalence"])
            for group in found.get("group", ())
            for element in group["element"]
            for target in element.get("target", ())
        }
        return found["version"], relations

    first, relations = close()
    assert relations == set()
    second, relations = close("lynx")
    assert relations == set()
    third, relations = close("cat", "manx")
    assert relations == {("lynx", "cat", "specializes"), ("manx", "cat", "specializes")}
    assert close("cat") == (third, set())
    assert close(version__valueString=second) == (third, relations)
    fourth, _ = close()
    assert close(version__valueString=third)[1] == {(a, b, "unmatched") for a, b, _ in relations}
    assert len({first, second, third, fourth}) == 4


def test_in_and_below_of_a_search_use_the_same_definitions(client, unique):
    client.create(animals(unique))
    client.create(value_set(unique, {"system": f"urn:{unique}", "concept": [{"code": "lynx"}]}))
    observation = client.create(
        {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": f"urn:{unique}", "code": "lynx"}]},
        }
    )
    name = [f"Observation/{observation['id']}"]
    assert client.found(f"Observation?code:in=urn:{unique}:set") == name
    assert client.found(f"Observation?code:below=urn:{unique}|cat") == name


def test_the_server_says_which_terminology_it_has(client):
    found = client.get("metadata", params={"mode": "terminology"}).json()
    assert found["resourceType"] == "TerminologyCapabilities"
    systems = {each["uri"]: each.get("version") for each in found["codeSystem"]}
    assert systems[ADMINISTRATIVE] == [{"code": "4.0.1"}]
    assert {UCUM, "http://loinc.org", "urn:iso:std:iso:11073:10101"} <= systems.keys()
    assert client.get("metadata").json()["resourceType"] == "CapabilityStatement"
    assert client.get("metadata", params={"mode": "other"}).status_code == 400
    stored = {**found, "date": "2024-01-01"}
    assert client.post("TerminologyCapabilities", stored).status_code == 201


def test_the_shipped_maps_translate_and_tell_their_gaps(client):
    def translated(code, **query):
        query = {"system": "http://loinc.org", "code": code, **query}
        response = client.get("ConceptMap/$translate", params=query)
        matches = [e["part"] for e in response.json()["parameter"] if e["name"] == "match"]
        found = [p["valueCoding"]["code"] for m in matches for p in m if p["name"] == "concept"]
        return outputs(response)["result"], found

    mdc = {"targetsystem": "urn:iso:std:iso:11073:10101"}
    assert translated("8480-6", **mdc) == (True, ["150021"])
    back = {"system": "urn:iso:std:iso:11073:10101", "reverse": "true"}
    assert translated("150021", **back, targetsystem="http://loinc.org") == (True, ["8480-6"])
    national = {"url": "https://pmp.example/fhir/ConceptMap/loinc-nsi-vital-parameters"}
    assert translated("8310-5", **national) == (True, ["6"])
    assert translated("8480-6", **national) == (False, [])
    units = {"url": "https://pmp.example/fhir/ConceptMap/ucum-nsi-units"}
    assert translated("mm[Hg]", **units, system=UCUM) == (False, [])
