"""batch and transaction: https://hl7.org/fhir/R4/http.html#transaction."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conformance.bundles import (
    PATIENT,
    URN,
    bundle,
    entry,
    key_of,
    observation,
    patient,
    statuses,
)


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_empty_bundle_is_answered(carry_out, kind):
    assert carry_out(kind=kind) == []


def test_base_url_with_and_without_slash_takes_a_bundle(client):
    for path in (client.base, client.base + "/"):
        response = client.post(path, bundle("batch"))
        assert response.status_code == 200


@pytest.mark.parametrize("kind", ["searchset", "collection", "Transaction", None])
def test_bundle_of_another_type_is_refused(client, kind):
    response = client.post("", {"resourceType": "Bundle", "type": kind})
    assert response.status_code == 400
    assert client.issues(response)[0]["expression"] == ["Bundle.type"]


def test_answers_keep_the_order_of_the_request(client, carry_out):
    old, doomed = client.create(PATIENT), client.create(PATIENT)
    answers = carry_out(
        entry("GET", f"Patient/{old['id']}"),
        entry("PUT", f"Patient/{old['id']}", {**old, "gender": "male"}),
        entry("POST", "Patient", PATIENT),
        entry("DELETE", f"Patient/{doomed['id']}"),
    )
    assert statuses(answers) == [200, 200, 201, 204]
    assert answers[0]["resource"]["gender"] == "male", "a GET sees what the transaction wrote"
    assert answers[1]["response"]["etag"] == 'W/"2"'
    assert answers[2]["response"]["location"].endswith("/_history/1")
    assert answers[2]["response"]["lastModified"].endswith("Z")
    assert "resource" not in answers[2]


def test_prefer_representation_shows_what_was_stored(carry_out):
    answers = carry_out(entry("POST", "Patient", PATIENT), Prefer="return=representation")
    assert answers[0]["resource"]["meta"]["versionId"] == "1"


def test_urn_references_follow_the_created_resource(client, carry_out):
    subject, binary = URN.format(1), URN.format(2)
    document = {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": subject},
        "content": [{"attachment": {"url": binary}}],
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{subject}">x</a></div>',
        },
    }
    answers = carry_out(
        entry("POST", "DocumentReference", document),
        entry("POST", "Observation", observation(subject)),
        entry("POST", "Patient", PATIENT, subject),
        entry("POST", "Binary", {"resourceType": "Binary", "contentType": "text/plain"}, binary),
    )
    stored, seen, person, blob = [client.get(key_of(a)).json() for a in answers]
    reference = f"Patient/{person['id']}"
    assert stored["subject"]["reference"] == seen["subject"]["reference"] == reference
    assert stored["content"][0]["attachment"]["url"] == f"Binary/{blob['id']}"
    assert f'href="{reference}"' in stored["text"]["div"]


def test_urn_references_follow_the_matched_resource(client, carry_out, unique):
    known = client.create(patient(unique))
    urn = URN.format(1)
    answers = carry_out(
        entry("POST", "Observation", observation(urn)),
        entry("POST", "Patient", patient(unique), urn, ifNoneExist=f"identifier=urn:s|{unique}"),
    )
    assert statuses(answers) == [201, 200]
    assert key_of(answers[1]) == f"Patient/{known['id']}"
    assert client.get(key_of(answers[0])).json()["subject"]["reference"] == (
        f"Patient/{known['id']}"
    )


def test_same_condition_twice_makes_one_resource(client, carry_out, unique):
    condition = f"identifier=urn:s|{unique}"
    first, second = URN.format(1), URN.format(2)
    answers = carry_out(
        entry("POST", "Patient", patient(unique), first, ifNoneExist=condition),
        entry("POST", "Patient", patient(unique), second, ifNoneExist=condition),
        entry("POST", "Observation", observation(second)),
    )
    assert statuses(answers) == [201, 200, 201]
    assert key_of(answers[0]) == key_of(answers[1])
    assert client.get(key_of(answers[2])).json()["subject"]["reference"] == key_of(answers[0])
    assert len(client.found(f"Patient?{condition}")) == 1


def test_deleted_resource_is_not_matched_by_a_condition(client, carry_out, unique):
    known = client.create(patient(unique))
    answers = carry_out(
        entry("POST", "Patient", patient(unique), ifNoneExist=f"identifier=urn:s|{unique}"),
        entry("DELETE", f"Patient/{known['id']}"),
    )
    assert statuses(answers) == [201, 204]


def test_conditional_reference_is_replaced(client, carry_out, unique):
    known = client.create(patient(unique))
    answers = carry_out(
        entry("POST", "Observation", observation(f"Patient?identifier=urn:s|{unique}"))
    )
    stored = client.get(key_of(answers[0])).json()
    assert stored["subject"]["reference"] == f"Patient/{known['id']}"


def test_conditional_reference_may_mean_what_the_transaction_makes(client, carry_out, unique):
    answers = carry_out(
        entry("POST", "Observation", observation(f"Patient?identifier=urn:s|{unique}")),
        entry("POST", "Patient", patient(unique)),
    )
    stored = client.get(key_of(answers[0])).json()
    assert stored["subject"]["reference"] == key_of(answers[1])


@pytest.mark.parametrize(("matches", "code"), [(0, "not-found"), (2, "multiple-matches")])
def test_conditional_reference_without_one_match_fails_with_its_path(
    client, send, unique, matches, code
):
    for _ in range(matches):
        client.create(patient(unique))
    response = send(
        entry("POST", "Patient", PATIENT),
        entry("POST", "Observation", observation(f"Patient?identifier=urn:s|{unique}")),
    )
    assert response.status_code == 412
    (issue,) = client.issues(response)
    assert issue["code"] == code
    assert issue["expression"] == ["Bundle.entry[1].resource.subject.reference"]


@pytest.mark.parametrize("query", ["nonsense=1", "identifier=", "_count=1"])
def test_conditional_reference_that_means_nothing_fails(client, send, query):
    response = send(entry("POST", "Observation", observation(f"Patient?{query}")))
    assert response.status_code == 400
    assert client.issues(response)[0]["expression"] == [
        "Bundle.entry[0].resource.subject.reference"
    ]


def test_versioned_reference_stays_versioned(client, carry_out):
    known = client.create(PATIENT)
    reference = f"Patient/{known['id']}/_history/1"
    answers = carry_out(entry("POST", "Observation", observation(reference)))
    assert client.get(key_of(answers[0])).json()["subject"]["reference"] == reference


def test_reference_relative_to_another_server_follows_its_entry(client, carry_out):
    answers = carry_out(
        entry("POST", "Patient", PATIENT, "https://ehr.example/fhir/Patient/7"),
        entry(
            "POST",
            "Observation",
            observation("Patient/7"),
            "https://ehr.example/fhir/Observation/8",
        ),
    )
    stored = client.get(key_of(answers[1])).json()
    assert stored["subject"]["reference"] == key_of(answers[0])


def test_nothing_is_stored_when_one_entry_fails(client, send, unique):
    known = client.create(PATIENT)
    response = send(
        entry("POST", "Patient", patient(unique)),
        entry("PUT", f"Patient/{known['id']}", known, ifMatch='W/"9"'),
    )
    assert response.status_code == 412
    assert client.issues(response)[0]["expression"] == ["Bundle.entry[1]"]
    assert client.found(f"Patient?identifier=urn:s|{unique}") == []


def test_read_of_nothing_fails_the_transaction(client, send, unique):
    response = send(entry("POST", "Patient", patient(unique)), entry("GET", "Patient/none-such"))
    assert response.status_code == 404
    assert client.issues(response)[0]["expression"] == ["Bundle.entry[1]"]
    assert client.found(f"Patient?identifier=urn:s|{unique}") == []


def test_every_fault_is_told_at_once_with_its_path(client, send):
    response = send(
        entry("POST", "Patient", {**PATIENT, "gender": "wrong"}),
        None,
        entry("POST", "Observation", {"resourceType": "Observation", "status": "final"}),
        entry("FETCH", "Patient"),
    )
    assert response.status_code in (400, 422)
    told = {issue["expression"][0] for issue in client.issues(response)}
    assert {
        "Bundle.entry[0].resource.gender",
        "Bundle.entry[1]",
        "Bundle.entry[3].request.method",
    } <= told
    assert any(expression.startswith("Bundle.entry[2].resource") for expression in told)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: [entry("PUT", p, {**PATIENT, "id": "o"}), entry("DELETE", p)],
        lambda p: [entry("PUT", p, {**PATIENT, "id": "o"})] * 2,
        lambda p: [entry("POST", "Patient", PATIENT, URN.format(1))] * 2,
    ],
)
def test_overlapping_entries_fail(client, send, make):
    response = send(*make("Patient/o"))
    assert response.status_code == 400
    assert client.issues(response)[0]["expression"] == ["Bundle.entry[1]"]


@pytest.mark.parametrize("hostile", [{"resource": None}, {"request": None}, {"resource": "x"}])
@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_null_in_an_entry_is_a_clear_refusal(client, send, hostile, kind):
    response = send({**entry("POST", "Patient", PATIENT), **hostile}, kind=kind)
    if kind == "batch":
        assert statuses(response.json()["entry"]) == [400]
    else:
        assert response.status_code == 400
        assert client.issues(response)[0]["expression"][0].startswith("Bundle.entry[0]")


def test_update_that_changes_nothing_makes_no_version_in_a_transaction(client, carry_out):
    known = client.create(PATIENT)
    answers = carry_out(entry("PUT", f"Patient/{known['id']}", known))
    assert statuses(answers) == [200]
    assert answers[0]["response"]["etag"] == 'W/"1"'


def test_update_creates_in_a_transaction_and_urns_follow(client, carry_out, unique):
    urn = URN.format(1)
    answers = carry_out(
        entry("POST", "Observation", observation(urn)),
        entry("PUT", f"Patient/{unique}", {**PATIENT, "id": unique}, urn),
    )
    assert statuses(answers) == [201, 201]
    assert client.get(key_of(answers[0])).json()["subject"]["reference"] == f"Patient/{unique}"


def test_reference_to_a_type_that_is_not_allowed_fails_behind_its_urn(client, send):
    urn = URN.format(1)
    response = send(
        entry("POST", "Observation", observation(urn)),
        entry("POST", "Practitioner", {"resourceType": "Practitioner"}, urn),
    )
    assert response.status_code == 422
    assert client.issues(response)[0]["expression"][0].startswith(
        "Bundle.entry[0].resource.subject"
    )


def test_search_in_a_transaction_sees_what_it_wrote(carry_out, unique):
    answers = carry_out(
        entry("GET", f"Patient?identifier=urn:s|{unique}"),
        entry("POST", "Patient", patient(unique)),
    )
    found = answers[0]["resource"]
    assert found["type"] == "searchset"
    assert len(found["entry"]) == 1


def test_search_that_means_nothing_fails_the_transaction_before_it_stores(client, send, unique):
    response = send(
        entry("POST", "Patient", patient(unique)), entry("GET", "Patient?birthdate=nonsense")
    )
    assert response.status_code == 400
    assert client.found(f"Patient?identifier=urn:s|{unique}") == []


def test_concurrent_transactions_with_the_same_condition_make_one_resource(client, unique):
    condition = f"identifier=urn:s|{unique}"
    body = bundle("transaction", entry("POST", "Patient", patient(unique), ifNoneExist=condition))
    barrier = threading.Barrier(8)

    def post(_):
        barrier.wait()
        return client.post("", body).json()["entry"][0]["response"]["status"]

    with ThreadPoolExecutor(8) as pool:
        told = sorted(pool.map(post, range(8)))
    assert told == ["200 OK"] * 7 + ["201 Created"]
    assert len(client.found(f"Patient?{condition}")) == 1


def test_batch_entries_fail_alone(client, carry_out, unique):
    known = client.create(PATIENT)
    answers = carry_out(
        entry("POST", "Patient", {**PATIENT, "gender": "wrong"}),
        entry("GET", "Patient/none-such"),
        entry("POST", "Patient", patient(unique)),
        None,
        entry("PUT", f"Patient/{known['id']}", known, ifMatch='W/"9"'),
        entry("delete", f"Patient/{known['id']}"),
        entry("PATCH", f"Patient/{known['id']}"),
        entry("GET", "nothing/$here"),
        entry("GET", f"Patient/{known['id']}", ifNoneMatch='W/"1"'),
        entry("GET", f"Patient/{known['id']}/_history/1"),
        entry("GET", f"Patient/{known['id']}/_history"),
        entry("GET", "metadata"),
        entry("HEAD", f"Patient/{known['id']}"),
        kind="batch",
    )
    assert statuses(answers) == [
        422,
        404,
        201,
        400,
        412,
        400,
        400,
        404,
        304,
        200,
        200,
        200,
        200,
    ]
    outcome = answers[0]["response"]["outcome"]
    assert outcome["issue"][0]["expression"] == ["Bundle.entry[0].resource.gender"]
    assert client.found(f"Patient?identifier=urn:s|{unique}") == [key_of(answers[2])]


def test_batch_works_off_its_methods_in_order(client, carry_out):
    known = client.create(PATIENT)
    path = f"Patient/{known['id']}"
    answers = carry_out(
        entry("GET", path),
        entry("PUT", path, {**known, "gender": "male"}),
        entry("DELETE", path),
        kind="batch",
    )
    assert statuses(answers) == [200, 201, 204]
    assert answers[0]["resource"]["meta"]["versionId"] == "3"


def test_batch_of_many_entries_is_carried_out(carry_out):
    answers = carry_out(*[entry("POST", "Patient", PATIENT)] * 500, kind="batch")
    assert set(statuses(answers)) == {201}
    assert len({key_of(a) for a in answers}) == 500


def test_transaction_of_1000_entries_is_carried_out(client, carry_out, unique):
    urns = [URN.format(i) for i in range(500)]
    entries = [
        e
        for urn in urns
        for e in (
            entry("POST", "Observation", observation(urn)),
            entry("POST", "Patient", PATIENT, urn),
        )
    ]
    answers = carry_out(*entries)
    assert set(statuses(answers)) == {201}
    first = client.get(key_of(answers[0])).json()
    assert first["subject"]["reference"] == key_of(answers[1])


def test_more_entries_than_the_limit_are_refused(client, send):
    response = send(*[entry("GET", "Patient/1")] * 5_001)
    assert response.status_code == 400
    assert client.issues(response)[0]["code"] == "too-costly"
