"""Binary in its native form: https://hl7.org/fhir/R4/binary.html#rest."""

import base64

import pytest

PDF = b"%PDF-1.7\n\x00\xff\n"


@pytest.fixture(scope="module")
def stored(client):
    response = client.post("Binary", data=PDF, headers={"Content-Type": "application/pdf"})
    assert response.status_code == 201
    return response.json()


def test_content_becomes_a_binary_of_its_type(client, stored):
    assert stored["contentType"] == "application/pdf"
    assert base64.b64decode(stored["data"]) == PDF
    assert client.get(f"Binary/{stored['id']}").json() == stored


@pytest.mark.parametrize("accept", ["application/pdf", "text/html, Application/PDF;q=0.5"])
@pytest.mark.parametrize("version", ["", "/_history/1"])
def test_who_asks_for_its_type_is_given_what_it_holds(client, stored, accept, version):
    path = f"Binary/{stored['id']}{version}"
    response = client.get(f"{path}?_pretty=true", headers={"Accept": accept})
    assert (response.status_code, response.content) == (200, PDF)
    assert response.headers["Content-Type"] == "application/pdf"
    assert response.headers["ETag"] == 'W/"1"'
    assert response.headers["Content-Disposition"] == "attachment"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    head = client.send("HEAD", path, headers={"Accept": accept})
    assert head.headers["Content-Length"] == f"{len(PDF)}"


def test_a_kind_of_types_is_named_by_its_star(client):
    image = client.post("Binary", data=b"\x89PNG", headers={"Content-Type": "image/png"}).json()
    response = client.get(f"Binary/{image['id']}", headers={"Accept": "image/*"})
    assert response.content == b"\x89PNG"


@pytest.mark.parametrize("accept", ["*/*", "application/fhir+json", "application/pdf, text/json"])
def test_who_takes_fhir_is_given_the_resource(client, stored, accept):
    response = client.get(f"Binary/{stored['id']}", headers={"Accept": accept})
    assert response.json()["resourceType"] == "Binary"


@pytest.mark.parametrize("path", ["Binary/{id}", "Binary/{id}/_history", "Binary", "Patient/{id}"])
def test_another_type_than_it_holds_is_not_acceptable(client, stored, path):
    response = client.get(path.format(id=stored["id"]), headers={"Accept": "image/png"})
    assert response.status_code == 406
    assert client.issues(response)


def test_content_is_put_at_an_id_and_replaced(client, unique):
    headers = {"Content-Type": "text/plain; charset=utf-8", "X-Security-Context": "Patient/42"}
    first = client.put(f"Binary/{unique}", data="один".encode(), headers=headers)
    assert first.status_code == 201
    assert first.json()["securityContext"] == {"reference": "Patient/42"}
    again = client.put(f"Binary/{unique}", data="два".encode(), headers=headers)
    assert (again.status_code, again.json()["meta"]["versionId"]) == (200, "2")
    read = client.get(f"Binary/{unique}", headers={"Accept": "text/plain"})
    assert (read.text, read.headers["Content-Type"]) == ("два", "text/plain; charset=utf-8")


def test_only_a_binary_is_made_of_foreign_content(client):
    response = client.post("Patient", data=PDF, headers={"Content-Type": "application/pdf"})
    assert response.status_code == 415


def test_a_type_that_is_no_header_is_read_as_a_resource(client):
    binary = {"resourceType": "Binary", "contentType": "text/x-ж", "data": "QQ=="}
    made = client.create(binary)
    response = client.get(f"Binary/{made['id']}", headers={"Accept": "text/plain"})
    assert response.status_code == 406
