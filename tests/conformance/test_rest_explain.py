"""`_explain=true`: how a search would run, for operators."""

import pytest


def explained(client, path):
    response = client.get(path)
    assert response.status_code == 200, response.text
    issues = client.issues(response)
    assert {issue["severity"] for issue in issues} == {"information"}
    return [issue["diagnostics"] for issue in issues]


def test_a_search_tells_which_indexes_it_would_use(client):
    lines = explained(client, "Observation?patient=1&code=a&_sort=-date&_explain=true")
    assert all(line.startswith("Observation: ") for line in lines)
    assert any("USING" in line for line in lines)
    posted = client.post("Observation/_search", data={"code": "a", "_explain": "true"})
    assert posted.json()["resourceType"] == "OperationOutcome"


def test_every_kind_of_search_is_explained(client):
    assert explained(client, "Patient/1/Observation?_explain=true")
    lines = explained(client, "?_explain=true&_type=Patient,Device")
    assert {line.split(":")[0] for line in lines} == {"Patient", "Device"}
    assert "more types" in explained(client, "?_explain=true")[-1]


@pytest.mark.parametrize("asked", ["_explain=1", "_explain=", "_explain=true&name:nonsense=x"])
def test_what_cannot_be_explained_is_refused(client, asked):
    assert client.get(f"Patient?{asked}").status_code == 400
