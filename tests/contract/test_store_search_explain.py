"""An explanation tells which indexes a search uses and how much it looks at, and no values."""

import pytest


@pytest.fixture
def filled(driver):
    driver.write(
        {"resourceType": "Patient", "id": "p", "name": [{"family": "Secretova"}]},
        {
            "resourceType": "Observation",
            "id": "o",
            "status": "final",
            "code": {"coding": [{"system": "urn:c", "code": "hidden"}]},
            "subject": {"reference": "Patient/p"},
            "effectiveDateTime": "2024-03-05",
        },
    )
    return driver


@pytest.mark.parametrize(
    "search",
    [
        "Patient?name=secretova",
        "Patient?name:contains=secretova&_sort=-birthdate&_total=accurate",
        "Observation?patient=p&code=hidden&_sort=-date",
        "Observation?subject:Patient.name=secretova&_content=hidden",
        "Patient?_has:Observation:patient:code=hidden&_filter=name co secret",
        "Observation?code=hidden&_count=0",
    ],
)
def test_an_explanation_names_indexes_and_numbers_and_no_values(filled, search):
    lines = filled.run(filled.store.explain(filled.query(search)))
    told = "\n".join(lines).lower()
    assert "matches" in lines[-1]
    assert any(word in told for word in ("index", "key", "ixscan"))
    for secret in ("secret", "hidden", "2024"):
        assert secret not in told


def test_an_explanation_changes_nothing(filled):
    query = filled.query("Patient?name=secretova")
    before = filled.run(filled.store.search(query))
    filled.run(filled.store.explain(query))
    assert filled.run(filled.store.search(query)) == before
