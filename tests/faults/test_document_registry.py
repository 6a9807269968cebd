"""Documents reach the registry once, whatever either side does: real processes, real HTTP."""

import json

import pytest
import requests

from tests.faults.kit import wait_until
from tests.faults.registry_scene import TOKEN, Scene, patient, plan


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    opened = Scene(tmp_path_factory.mktemp("documents"))
    opened.start_registry()
    opened.start_server()
    yield opened
    opened.close()


def registered(scene, name):
    scene.wait_for(name, "registered")
    (task,) = scene.tasks(name)
    return task


def uid_of(task):
    return task["focus"]["reference"].removeprefix("DocumentReference/")


def at_registry(scene, uid):
    (found,) = [each for each in scene.documents() if each["uid"] == uid]
    return found


def test_an_active_plan_registers_a_referral_and_a_completed_one_a_protocol(scene):
    scene.enrol("both", readings=5)
    task = registered(scene, "both")
    assert task["status"] == "completed"
    assert at_registry(scene, uid_of(task))["kind"] == "282"
    scene.put(plan("both", "completed"))
    scene.wait_for("both", "registered", "registered")
    kinds = {at_registry(scene, uid_of(task))["kind"] for task in scene.tasks("both")}
    assert kinds == {"282", "262"}


def test_the_registry_has_the_very_bytes_that_were_signed_here(scene):
    scene.enrol("bytes", "completed", readings=3)
    uid = uid_of(registered(scene, "bytes"))
    assert scene.file(uid) == scene.binary(uid, "file")
    assert "Систолическое артериальное давление".encode() in scene.file(uid)


@pytest.mark.parametrize("kind", ["other-prefix", "no-wrapper"])
def test_a_deformed_callback_is_understood(scene, kind):
    scene.set_fault(kind)
    scene.enrol(kind)
    registered(scene, kind)


@pytest.mark.parametrize(
    "kind",
    [
        *("rate-limit", "internal-error", "accept-then-error", "duplicate"),
        *("file-fails", "late-duplicate", "register-and-never-answer"),
    ],
)
def test_what_may_pass_is_tried_again_and_what_may_be_there_is_looked_for(scene, kind):
    scene.set_fault(kind)
    scene.enrol(kind)
    if kind == "register-and-never-answer":
        scene.wait_for(kind, "accepted")
        (task,) = scene.tasks(kind)
        scene.put({**task, "lastModified": "2020-01-01T00:00:00Z"})
    found = at_registry(scene, uid_of(registered(scene, kind)))
    # What failed its check may be sent again; what is there, or on its way, may not.
    assert found["sends"] == (2 if kind in ("file-fails", "late-duplicate") else 1)
    assert found["state"] == "registered"


def test_a_registry_that_never_answers_is_given_up_and_may_answer_yet(scene):
    scene.set_fault("never-answer")
    scene.enrol("silent")
    scene.wait_for("silent", "accepted")
    (task,) = scene.tasks("silent")
    scene.put({**task, "lastModified": "2020-01-01T00:00:00Z"})
    scene.wait_for("silent", "no-response")
    (task,) = scene.tasks("silent")
    message = task["identifier"][0]["value"]
    late = (
        f"<r><relatesToMessage>{message}</relatesToMessage><status>success</status>"
        "<emdrId>emdr-late</emdrId></r>"
    )
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = requests.post(scene.callback, data=late, headers=headers, timeout=5)
    assert answer.status_code == 200
    assert "emdr-late" in json.dumps(registered(scene, "silent")["output"])


def queued():
    system = "https://pmp.example/fhir/CodeSystem/registration-state"
    return {"coding": [{"system": system, "code": "queued"}]}


@pytest.mark.parametrize("kind", ["broken-callback", "unknown-status"])
def test_a_callback_that_cannot_be_acted_on_is_kept_for_a_person(scene, kind):
    scene.set_fault(kind)
    scene.enrol(kind)
    code = "https://pmp.example/fhir/CodeSystem/task|registry-message"

    def kept():
        return scene.search("Task", code=code, patient=f"Patient/{kind}")

    wait_until(kept)
    (message,) = kept()
    reason = {"broken-callback": "broken-xml"}.get(kind, kind)
    assert message["businessStatus"]["coding"][0]["code"] == reason
    assert message["focus"]["reference"] == f"Task/{scene.tasks(kind)[0]['id']}"
    assert scene.states(kind) == ["file-requested"]


def test_a_callback_that_comes_twice_changes_nothing(scene):
    scene.set_fault("callback-twice")
    scene.enrol("twice")
    registered(scene, "twice")


def test_a_late_refusal_names_its_owner_and_nobody_else(scene):
    scene.set_fault("late-reject")
    scene.enrol("late")
    scene.wait_for("late", "rejected")
    (task,) = scene.tasks("late")
    said = json.dumps(task["statusReason"], ensure_ascii=False)
    assert "RECIPIENT_SNILS_MISMATCH (patient, clinic)" in said
    for secret in ("112", "Иванова", "Мария", "Петровна"):
        assert secret not in said
    scene.put(patient("late", "13877203988"))
    scene.put({**task, "status": "requested", "businessStatus": queued()})
    second = registered(scene, "late")
    refused = task["output"][0]["valueReference"]["reference"]
    assert second["focus"]["reference"] != refused
    assert b"13877203988" in scene.file(uid_of(second))
    assert b'versionNumber value="2"' in scene.file(uid_of(second))


def test_what_the_registry_refuses_at_once_is_rejected_and_can_be_made_anew(scene):
    scene.set_fault("reject")
    scene.enrol("refused")
    scene.wait_for("refused", "rejected")
    wait_until(lambda: scene.rejected("VALIDATION_ERROR"))
    (line,) = scene.rejected("VALIDATION_ERROR")
    assert "1961" not in line.reason
    assert "Мария" not in line.reason
    scene.retry(line)
    registered(scene, "refused")


def test_a_patient_without_snils_is_rejected_until_there_is_one(scene):
    scene.enrol("nameless", snils="")
    wait_until(lambda: scene.rejected("SNILS"))
    (line,) = scene.rejected("SNILS")
    scene.put(patient("nameless", "17400354229"))
    scene.retry(line)
    registered(scene, "nameless")


def test_the_endpoint_asks_for_its_token_and_takes_no_entities(scene):
    url = scene.callback
    assert requests.post(url, data=b"<x/>", timeout=5).status_code == 401
    headers = {"Authorization": f"Bearer {TOKEN}"}
    bomb = b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
    assert requests.post(url, data=bomb, headers=headers, timeout=5).status_code == 200
    unknown = requests.post(url, data=b"<what/>", headers=headers, timeout=5)
    assert unknown.status_code == 400
    long = requests.post(url, data=b" " * 2_000_000, headers=headers, timeout=5)
    assert long.status_code == 413
    asked = b"<getDocumentFileRequest><localUid>../../etc</localUid></getDocumentFileRequest>"
    assert requests.post(url, data=asked, headers=headers, timeout=5).status_code == 404
