"""Bulk Data Access: asked for, looked after, fetched, taken away.

https://hl7.org/fhir/uv/bulkdata/export.html
"""

import email.utils
import gzip
import json
import stat
import time

import pytest
import requests

from tests.conformance.conftest import Client, Server
from tests.conformance.export_kit import ASYNC, Exports


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def ours(folder):
    url = f"sqlite:///{folder}/fhir.db"
    with Server(store=url, plan_templates=False, exports_per_client=100) as running:
        client = Client(running)
        for number in range(3):
            client.put(f"Patient/p{number}", {"resourceType": "Patient", "id": f"p{number}",
                                              "birthDate": f"195{number}-01-01"})  # fmt: skip
            client.put(f"Observation/o{number}", observation(f"o{number}", f"Patient/p{number}"))
        link = {"other": {"reference": "Patient/p0"}, "type": "seealso"}
        client.put("Patient/p3", {"resourceType": "Patient", "id": "p3", "link": [link]})
        client.put("Device/d", {"resourceType": "Device", "id": "d"})
        client.put("Observation/of-device", observation("of-device", "Device/d"))
        both = [{"actor": {"reference": f"Patient/p{n}"}, "status": "accepted"} for n in (0, 1)]
        client.put("Appointment/both", {"resourceType": "Appointment", "id": "both",
                                        "status": "proposed", "participant": both})  # fmt: skip
        members = [
            {"entity": {"reference": "Patient/p0"}},
            {"entity": {"reference": "Patient/p1"}, "inactive": True},
            {"entity": {"reference": "Patient/p2"}, "period": {"end": "2001"}},
            {"entity": {"reference": "Device/d"}},
        ]
        client.put("Group/g", {"resourceType": "Group", "id": "g", "type": "person",
                               "actual": True, "member": members})  # fmt: skip
        yield client


@pytest.fixture(scope="module")
def exports(ours):
    return Exports(ours.send)


def observation(name, subject, **more):
    return {
        "resourceType": "Observation", "id": name, "status": "final", "code": {"text": "pulse"},
        "subject": {"reference": subject}, **more,
    }  # fmt: skip


def refused(ours, path, *, body=None, headers=ASYNC, status=400):
    answer = ours.send("GET" if body is None else "POST", path, body, headers=headers)
    assert answer.status_code == status, answer.text
    return ours.issues(answer)[0]


def test_an_export_is_asked_for_asynchronously_or_not_at_all(ours):
    for path in ("$export", "Patient/$export", "Group/g/$export"):
        assert "respond-async" in refused(ours, path, headers={})["diagnostics"]
    entry = {"request": {"method": "GET", "url": "$export"}}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
    answer = ours.post("", bundle, headers=ASYNC).json()
    assert answer["entry"][0]["response"]["status"].startswith("400")


def test_the_capability_statement_says_so(ours):
    statement = ours.get("metadata").json()
    assert statement["instantiates"] == [
        "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"
    ]
    (rest,) = statement["rest"]
    url = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/"
    assert {"name": "export", "definition": f"{url}export"} in rest["operation"]
    of = {each["type"]: each["operation"] for each in rest["resource"]}
    assert {"name": "export", "definition": f"{url}patient-export"} in of["Patient"]
    assert {"name": "export", "definition": f"{url}group-export"} in of["Group"]
    for name, at in (("system", "system"), ("patient", "type"), ("group", "instance")):
        definition = ours.get(f"OperationDefinition/export-{name}").json()
        assert definition["base"].startswith(url)
        assert [level for level in ("system", "type", "instance") if definition[level]] == [at]


def test_all_that_is_there_is_in_the_files_of_its_type_once(ours, exports):
    manifest = exports.run("$export")
    expected = ["Appointment/both", "Device/d", "Group/g"]
    expected += [f"Observation/{name}" for name in ("o0", "o1", "o2", "of-device")]
    expected += [f"Patient/p{number}" for number in range(4)]
    assert exports.keys(manifest) == expected
    assert manifest["request"] == f"{ours.base}/$export"
    assert manifest["requiresAccessToken"] is False
    assert (manifest["deleted"], manifest["error"]) == ([], [])
    assert ours.get("Patient/p0").json() in exports.lines(manifest)


def test_a_patient_level_export_holds_what_belongs_to_patients(exports):
    found = exports.keys(exports.run("Patient/$export"))
    assert "Appointment/both" in found
    assert {"Patient/p3", "Observation/o2"} <= set(found)
    # R4 has a Group in the compartments of its members.
    assert "Group/g" in found
    assert not {"Device/d", "Observation/of-device"} & set(found)


def test_a_group_is_its_members_of_now_and_nobody_who_only_links_to_them(ours, exports):
    assert exports.keys(exports.run("Group/g/$export")) == [
        "Appointment/both", "Group/g", "Observation/o0", "Patient/p0",
    ]  # fmt: skip
    refused(ours, "Group/nobody/$export", status=404)
    refused(ours, "Observation/$export", status=404)
    refused(ours, "Patient/p0/$export", status=404)


def parameters(*pairs):
    parameter = [{"name": name, **value} for name, value in pairs]
    return {"resourceType": "Parameters", "parameter": parameter}


def test_patients_are_chosen_by_post(ours, exports):
    chosen = parameters(
        ("_type", {"valueString": "Patient,Appointment"}),
        ("patient", {"valueReference": {"reference": "Patient/p0"}}),
        ("patient", {"valueReference": {"reference": f"{ours.base}/Patient/p1"}}),
        ("patient", {"valueReference": {"reference": "Patient/of-nobody"}}),
    )
    found = exports.keys(exports.run("Patient/$export", chosen))
    assert found == ["Appointment/both", "Patient/p0", "Patient/p1"]
    assert exports.keys(exports.run("Group/g/$export", chosen)) == [
        "Appointment/both", "Patient/p0",
    ]  # fmt: skip
    refused(ours, "Patient/$export?patient=Patient/p0")
    refused(ours, "$export", body=chosen)
    other = parameters(("patient", {"valueReference": {"reference": "Device/d"}}))
    refused(ours, "Patient/$export", body=other)


def test_types_filters_and_elements(exports):
    path = (
        "$export?_type=Patient,Observation&_elements=Patient.birthDate,id"
        "&_typeFilter=Patient%3Fbirthdate%3D1950,Patient%3F_id%3Dp1,p3,Observation%3Fsubject%3DDevice%2Fd"
    )
    manifest = exports.run(path)
    assert exports.keys(manifest) == [
        "Observation/of-device", "Patient/p0", "Patient/p1", "Patient/p3",
    ]  # fmt: skip
    patient = next(each for each in exports.lines(manifest) if each["id"] == "p0")
    assert set(patient) == {"resourceType", "id", "meta", "birthDate"}
    assert patient["meta"]["tag"][0]["code"] == "SUBSETTED"


@pytest.mark.parametrize(
    "query",
    [
        "_outputFormat=text/csv",
        "_since=yesterday",
        "_since=2024-01-01",
        "_type=Nothing",
        "_type=Patient,Nothing",
        "_typeFilter=Patient",
        "_typeFilter=Patient%3Fnothing%3Dx",
        "_typeFilter=Patient%3F_sort%3Dname",
        "_type=Patient&_typeFilter=Observation%3Fcode%3Dx",
        "_elements=Nothing.id",
        "includeAssociatedData=LatestProvenanceResources",
        "organizeOutputBy=Patient",
        "_count=3",
    ],
)
def test_what_is_not_understood_is_refused(ours, query):
    refused(ours, f"$export?{query}")


def test_what_is_not_supported_is_passed_over_where_the_client_is_lenient(exports):
    path = "$export?_type=Patient,Nothing&includeAssociatedData=x&_count=3"
    manifest = exports.run(path, headers={"Prefer": "respond-async, handling=lenient"})
    assert len(exports.keys(manifest)) == 4
    said = [each["issue"][0] for each in exports.lines(manifest, "error")]
    assert {each["severity"] for each in said} == {"information"}
    assert [each["diagnostics"].split()[0] for each in said] == [
        "_type", "includeAssociatedData", "_count",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["ndjson", "application/ndjson", "application/fhir%2Bndjson", "application/fhir+ndjson"]
)
def test_every_name_of_ndjson_is_taken(exports, name):
    assert exports.run(f"$export?_type=Device&_outputFormat={name}")["output"]


def test_what_comes_after_the_transaction_time_is_in_the_next_export(ours, exports, unique):
    first = exports.run("$export?_type=Patient,Basic")
    basic = {"resourceType": "Basic", "code": {"text": unique}}
    names = [ours.create(basic)["id"] for _ in range(4)]
    ours.delete(f"Basic/{names[0]}")
    ours.delete(f"Basic/{names[1]}")
    ours.put(f"Basic/{names[1]}", {**basic, "id": names[1]})
    since = first["transactionTime"]
    second = exports.run(f"$export?_type=Basic&_since={since}")
    assert exports.keys(second) == sorted(f"Basic/{name}" for name in names[1:])
    assert exports.deleted(second) == [f"Basic/{names[0]}"]
    ours.delete(f"Basic/{names[2]}")
    since = second["transactionTime"].replace("Z", "+00:00")
    third = exports.run(f"$export?_type=Basic&_since={since}")
    # What has the very time of the last export goes along again: nothing is missed.
    assert f"Basic/{names[2]}" in exports.deleted(third)
    assert f"Basic/{names[3]}" not in exports.deleted(third)
    assert exports.deleted(exports.run(f"$export?_type=Patient&_since={since}")) == []


def test_what_was_deleted_of_whom_it_is_not_about_is_not_told(ours, exports):
    since = exports.run("$export?_type=Device")["transactionTime"]
    for name, subject in (("x0", "Patient/p0"), ("x1", "Patient/p1"), ("x2", "Device/d")):
        ours.put(f"Observation/{name}", observation(name, subject))
        ours.delete(f"Observation/{name}")

    def deleted(path):
        return exports.deleted(exports.run(f"{path}?_type=Observation&_since={since}"))

    assert deleted("Group/g/$export") == ["Observation/x0"]
    assert deleted("Patient/$export") == ["Observation/x0", "Observation/x1"]
    assert deleted("$export") == ["Observation/x0", "Observation/x1", "Observation/x2"]


def test_a_job_is_looked_after_and_its_files_end(ours, exports):
    status = exports.begin("$export?_type=Device")
    answer = ours.get(status)
    assert answer.status_code == 202
    assert len(answer.headers["X-Progress"]) <= 100
    assert int(answer.headers["Retry-After"]) >= 1
    answer = exports.wait(status)
    assert answer.headers["Content-Type"] == "application/json"
    expires = email.utils.parsedate_to_datetime(answer.headers["Expires"])
    assert expires.timestamp() > time.time() + 80_000
    assert ours.get(f"{status}x").status_code == 404
    assert ours.delete(f"{status}x").status_code == 404


def test_who_looks_without_pause_is_told_to_wait(ours, exports):
    statuses = []
    for _ in range(8):
        status = exports.begin("$export")
        answers = [ours.get(status) for _ in range(14)]
        statuses += [each.status_code for each in answers]
        late = next((each for each in answers if each.status_code == 429), None)
        if late is not None:
            assert int(late.headers["Retry-After"]) > 0
            return
    pytest.fail(f"never: {statuses}")


def test_what_is_ended_is_gone_with_its_files(ours, exports, folder):
    status = exports.begin("$export")
    assert ours.delete(status).status_code == 202
    assert ours.get(status).status_code == 404
    status = exports.begin("$export")
    manifest = exports.wait(status).json()
    name = status.rpartition("/")[2]
    assert list((folder / "exports" / name).iterdir())
    assert ours.delete(status).status_code == 202
    assert not (folder / "exports" / name).exists()
    for each in manifest["output"]:
        assert ours.get(each["url"]).status_code == 404
    assert ours.delete(status).status_code == 404


def test_only_the_servers_user_can_read_what_is_kept(exports, folder):
    exports.run("$export")
    found = list((folder / "exports").rglob("*"))
    assert any(path.suffix == ".ndjson" for path in found)
    for path in [folder / "exports", *found]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_a_file_comes_as_gzip_and_in_parts(exports):
    (file,) = exports.run("$export?_type=Observation")["output"]

    def get(**headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        with requests.get(file["url"], headers=headers, stream=True, timeout=10) as answer:
            return answer, answer.raw.read(decode_content=False)

    plain, lines = get(Accept_Encoding="identity")
    packed, body = get(Accept_Encoding="gzip")
    assert gzip.decompress(body) == lines
    assert packed.headers["Content-Encoding"] == "gzip"
    assert plain.headers["ETag"] != packed.headers["ETag"]
    assert int(plain.headers["Content-Length"]) == len(lines)
    assert int(packed.headers["Content-Length"]) == len(body)
    for encoding, whole in (("identity", lines), ("gzip", body)):
        part, data = get(Accept_Encoding=encoding, Range="bytes=10-")
        assert (part.status_code, data) == (206, whole[10:])
        assert part.headers["Content-Range"] == f"bytes 10-{len(whole) - 1}/{len(whole)}"
        assert get(Accept_Encoding=encoding, Range="bytes=3-7")[1] == whole[3:8]
        assert get(Accept_Encoding=encoding, Range="bytes=-5")[1] == whole[-5:]
    assert get(Accept_Encoding="identity", Range=f"bytes={len(lines)}-")[0].status_code == 416
    assert get(Accept_Encoding="identity", Range="bytes=0-4", If_Range='"x"')[1] == lines
    head = requests.head(file["url"], headers={"Accept-Encoding": "identity"}, timeout=10)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["Content-Length"]) == len(lines)
    assert [json.loads(line)["resourceType"] for line in lines.splitlines()]


def test_a_client_has_so_many_exports_and_no_more():
    with Server(plan_templates=False, exports_per_client=2) as server:
        client = Client(server)
        exports = Exports(client.send)
        first = exports.begin("$export?_type=Device")
        exports.begin("$export?_type=Device")
        answer = client.get("$export?_type=Device", headers=ASYNC)
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 0
        assert client.delete(first).status_code == 202
        exports.begin("$export?_type=Device")


def test_files_are_taken_away_when_their_time_is_over():
    with Server(plan_templates=False, export_hours=0.0002) as server:
        client = Client(server)
        client.create({"resourceType": "Device"})
        exports = Exports(client.send)
        status = exports.begin("$export?_type=Device")
        manifest = exports.wait(status).json()
        time.sleep(0.8)
        assert client.get(status).status_code == 404
        assert client.get(manifest["output"][0]["url"]).status_code == 404
