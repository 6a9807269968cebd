"""Sheets hold the records of one commit, whole and in their order, whoever asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.security import audit_record, audit_sheet
from fhir_server.core.security.audit_record import Asker, AuditRecord, Touched
from fhir_server.core.security.audit_sheet import TrailEntry

texts = st.text(max_size=12)
patients = st.sampled_from(["", "Patient/1", "Patient/22", "Patient/2"])
askers = st.builds(
    Asker,
    kind=st.sampled_from(["anonymous", "user"]),
    client=texts,
    user=st.sampled_from(["", "Patient/1", "Patient/7", "Practitioner/3"]),
    purposes=st.lists(texts, max_size=2).map(tuple),
)
touched = st.builds(Touched, patients, st.lists(texts, max_size=2).map(tuple))
records = st.builds(
    AuditRecord,
    interaction=texts,
    action=st.sampled_from("CRUDE"),
    outcome=st.sampled_from(["0", "4"]),
    status=st.sampled_from([0, 404]),
    asker=askers,
    address=texts,
    request_id=texts,
    request=texts,
    form=texts,
    reason=texts,
    touched=st.lists(touched, max_size=3).map(tuple),
)


def alone(record):
    return TrailEntry(audit_record.format(record), audit_record.patients(record))


entries = st.lists(st.tuples(records, st.sampled_from([alone, audit_sheet.entry_of])), max_size=6)


def written(made):
    return list(audit_sheet.sheets(make(record) for record, make in made))


@given(entries)
def test_what_was_written_is_read_again_in_its_order(made):
    read = [record for sheet in written(made) for record in audit_sheet.parse(sheet.text)]
    assert read == [record for record, _ in made]


@given(entries)
def test_a_sheet_is_on_the_lists_of_its_records(made):
    for sheet in written(made):
        read = audit_sheet.parse(sheet.text)
        assert sheet.records == len(read)
        expected = {patient for record in read for patient in audit_record.patients(record)}
        assert set(sheet.patients) == audit_sheet.patients_of(sheet.text) == expected
        for patient in expected:
            assert audit_sheet.mark_of(patient) in sheet.text


def test_a_sheet_of_others_does_not_hold_the_mark_of_a_patient():
    record = AuditRecord(
        "read", "R", request="GET /fhir/Patient/2", touched=(Touched("Patient/22"),)
    )
    (sheet,) = audit_sheet.sheets([audit_sheet.entry_of(record)])
    assert audit_sheet.mark_of("Patient/2") not in sheet.text


def test_records_of_one_commit_are_one_sheet_and_name_an_asker_once():
    asker = Asker("user", client="an-application-of-some-name")
    made = [AuditRecord("read", "R", asker=asker, request=str(number)) for number in range(50)]
    (sheet,) = audit_sheet.sheets(map(audit_sheet.entry_of, made))
    assert sheet.records == 50
    assert sheet.text.count(b"an-application-of-some-name") == 1


def test_a_long_commit_has_several_sheets():
    made = [AuditRecord("read", "R", request="x" * 4_000) for _ in range(100)]
    found = written([(record, audit_sheet.entry_of) for record in made])
    assert 4 < len(found) < 20
    assert max(len(sheet.text) for sheet in found) < 80_000


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b'[[],[0],[["read","R","","",[]]]]', b"[[],[],[[]]]"]
)
def test_what_is_no_sheet_is_refused_and_on_no_list(text):
    with pytest.raises(ValueError):  # noqa: PT011 - whatever the reader says of it
        audit_sheet.parse(text)
    assert audit_sheet.patients_of(text) == frozenset()
