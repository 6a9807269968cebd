"""$meta, $meta-add, $meta-delete. https://hl7.org/fhir/R4/resource-operations.html."""

import pytest

from fhir_server.operations import meta

PROFILE = "https://pmp.example/fhir/StructureDefinition/a"


def tag(code, system="urn:tags"):
    return {"system": system, "code": code}


def parameters(**meta):
    return {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": meta}]}


def returned(response):
    assert response.status_code == 200, response.text
    (parameter,) = response.json()["parameter"]
    assert parameter["name"] == "return"
    return parameter["valueMeta"]


@pytest.fixture
def path(client):
    resource = {"resourceType": "Basic", "code": {"text": "x"}, "meta": {"tag": [tag("first")]}}
    return f"Basic/{client.create(resource)['id']}"


def test_meta_of_a_resource(client, path):
    found = returned(client.get(f"{path}/$meta"))
    assert found["tag"] == [tag("first")]
    assert found["versionId"] == "1"
    assert returned(client.post(f"{path}/$meta")) == found


def test_what_is_added_is_there_and_found(client, path, unique):
    found = returned(
        client.post(
            f"{path}/$meta-add",
            parameters(tag=[tag(unique), tag("first")], profile=[PROFILE], security=[tag("R")]),
        )
    )
    assert found["tag"] == [tag("first"), tag(unique)]
    assert found["profile"] == [PROFILE]
    assert found["versionId"] == "2"
    assert client.found(f"Basic?_tag=urn:tags|{unique}&_security=urn:tags|R") == [path]
    assert client.get(path).json()["meta"] == found


def test_adding_what_is_there_makes_no_version(client, path):
    assert (
        returned(client.post(f"{path}/$meta-add", parameters(tag=[tag("first")])))["versionId"]
        == "1"
    )


def test_what_is_deleted_is_gone(client, path, unique):
    client.post(f"{path}/$meta-add", parameters(tag=[tag(unique)]))
    found = returned(
        client.post(f"{path}/$meta-delete", parameters(tag=[tag("first"), tag("never")]))
    )
    assert found["tag"] == [tag(unique)]
    assert returned(client.post(f"{path}/$meta-delete", parameters(tag=[tag(unique)]))).keys() == {
        "versionId",
        "lastUpdated",
    }


def test_a_type_has_what_its_resources_have(client, path, unique):
    client.post(f"{path}/$meta-add", parameters(tag=[tag(unique)]))
    assert tag(unique) in returned(client.get("Basic/$meta"))["tag"]
    assert tag(unique) in returned(client.get("$meta"))["tag"]
    assert tag(unique) not in returned(client.get("Flag/$meta")).get("tag", [])


def test_what_is_not_there_has_none(client):
    for call in (
        client.get("Basic/nobody/$meta"),
        client.post("Basic/nobody/$meta-add", parameters(tag=[tag("a")])),
    ):
        assert call.status_code == 404


def test_a_change_is_never_made_by_get(client, path):
    response = client.get(f"{path}/$meta-add")
    assert response.status_code == 405
    assert response.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "Parameters"},
        {"resourceType": "Basic"},
        {"resourceType": "Parameters", "parameter": [{"name": "meta"}]},
        {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueString": "x"}]},
        {"resourceType": "Parameters", "parameter": {"name": "meta"}},
        {"resourceType": "Parameters", "parameter": [{"name": "other", "valueMeta": {}}]},
        parameters(tag="x"),
    ],
)
def test_inputs_that_mean_nothing_are_refused(client, path, body):
    assert client.post(f"{path}/$meta-add", body).status_code == 400


def test_labels_that_break_the_rules_are_refused(client, path):
    response = client.post(f"{path}/$meta-add", parameters(tag=[{"system": 5}]))
    assert response.status_code == 422
    assert "meta.tag" in client.issues(response)[0]["expression"][0]


def test_a_batch_may_label_and_a_transaction_may_ask(client, path, unique):
    entry = {
        "request": {"method": "POST", "url": f"{path}/$meta-add"},
        "resource": parameters(tag=[tag(unique)]),
    }
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
    assert client.post("", bundle).json()["entry"][0]["response"]["status"] == "200 OK"
    assert client.found(f"Basic?_tag={unique}") == [path]
    asks = {"request": {"method": "GET", "url": f"{path}/$meta"}}
    done = client.post("", {**bundle, "type": "transaction", "entry": [asks]})
    assert tag(unique) in returned_of(done)["tag"]
    refused = client.post("", {**bundle, "type": "transaction"})
    assert refused.status_code == 405


def returned_of(response):
    return response.json()["entry"][0]["resource"]["parameter"][0]["valueMeta"]


def test_every_operation_is_claimed_and_every_claimed_one_is_there(client):
    (rest,) = client.get("metadata").json()["rest"]
    assert [each["name"] for each in rest["operation"]] == ["export", "meta", "closure"]
    of = {each["type"]: {o["name"] for o in each["operation"]} for each in rest["resource"]}
    of_all = {"meta", "meta-add", "meta-delete", "validate"}
    views = {"cgm-summary", "cgm-day", "home-blood-pressure"}
    assert of["Patient"] == {"everything", "export", *views, *of_all}
    assert of["Observation"] == {"lastn", "stats", *of_all}
    assert of["Basic"] == of_all
    for each in rest["resource"]:
        for operation in each["operation"]:
            assert "/OperationDefinition/" in operation["definition"]


def test_what_takes_too_long_over_all_types_is_ended(client, monkeypatch):
    monkeypatch.setattr(meta, "_SECONDS", 0.0)
    response = client.get("$meta")
    assert response.status_code == 422
    assert client.issues(response)[0]["code"] == "too-costly"
