"""A ward: the same seed says the same, every fault is there, and the account finds what is off."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from fhir_server.core.mapping.reading import Verdict
from fhir_server.simulation.account import Stored, account, balance
from fhir_server.simulation.devices import ZONE
from fhir_server.simulation.expectation import Expected
from fhir_server.simulation.ledger import Ledger, LedgerError, read_entries, read_header
from fhir_server.simulation.ward import FAULTS, KINDS, Ward, enrolments, patients, sendings

START = datetime(2026, 3, 1, tzinfo=ZONE)
WARD = Ward(7, 4, 6, START, tuple(KINDS), {**dict.fromkeys(FAULTS, 0.05), "reassigned": 0.5})
AT = datetime(2026, 3, 1, 8, tzinfo=UTC)
ONE = Expected(Verdict.ACCEPTED, "", "P", "8867-4", AT, "above-limit")


def everything(ward):
    return [sending for patient in patients(ward) for sending in sendings(ward, patient)]


def stored(code="8867-4", at=AT, **alerts):
    raised = Counter({name.replace("_", "-"): count for name, count in alerts.items()})
    return Stored("Observation/1", frozenset({code}), at, raised)


def test_the_same_seed_sends_the_same():
    assert everything(WARD) == everything(WARD)
    assert everything(WARD) != everything(WARD._replace(seed=8))


def test_every_fault_of_a_payload_happens():
    faults = {sending.fault for sending in everything(WARD._replace(patients=12))}
    assert set(FAULTS) - {"silence", "reassigned"} <= faults


def test_without_faults_all_is_accepted_and_sent_at_once():
    quiet = WARD._replace(faults={})
    for sending in everything(quiet):
        assert not sending.fault
        assert {each.verdict for each in sending.expected} == {Verdict.ACCEPTED}
    orders = [order for patient in patients(quiet) for order in enrolments(quiet, patient)]
    assert len(orders) == len(KINDS) * WARD.patients


def test_a_reassigned_device_is_one_patients_at_a_time():
    for patient in patients(WARD):
        orders = list(enrolments(WARD, patient))
        if patient.heir is None:
            assert len(orders) == 1
            continue
        before, after = (order["prescription"]["period"] for order in orders)
        assert before["end"] < after["start"]
        for sending in sendings(WARD, patient):
            for each in sending.expected:
                if each.instant and each.patient:
                    is_heirs = each.instant >= patient.handed_on
                    assert each.patient == (patient.heir if is_heirs else patient.person).identifier


def test_a_silent_kit_sends_what_it_kept_when_it_is_back():
    silent = WARD._replace(faults={"silence": 1.0})
    for patient in patients(silent):
        late = [
            sending.at - each.instant
            for sending in sendings(silent, patient)
            for each in sending.expected
        ]
        assert max(late) > timedelta(days=1) or patient.kind == "implant"


def test_a_ledger_reads_back_and_sums_up(tmp_path):
    path = tmp_path / "ledger"
    sent = everything(WARD)
    with Ledger(path, {"seed": 7, "quarantined": {}}) as ledger:
        for sending in sent:
            said = tuple((str(each.verdict), each.reason) for each in sending.expected)
            ledger.add(sending, said)
    found = account(read_entries(path))

    assert read_header(path)["seed"] == 7
    assert found.verdicts.total() == sum(len(sending.expected) for sending in sent)
    assert not found.told_otherwise
    assert {e.expected for e in read_entries(path)} == {sending.expected for sending in sent}


def test_a_broken_ledger_is_named_by_its_line(tmp_path):
    path = tmp_path / "ledger"
    path.write_text('{"seed": 1}\n{"mapping": "cgm"}\n')
    with pytest.raises(LedgerError, match="line 2"):
        list(read_entries(path))


def test_another_verdict_than_expected_is_counted(tmp_path):
    path = tmp_path / "ledger"
    first = everything(WARD)[0]
    with Ledger(path, {"seed": 7}) as ledger:
        ledger.add(first, (("ignored", ""),))
        ledger.add(first, None)
    assert account(read_entries(path)).told_otherwise.total() == 1


@pytest.mark.parametrize(
    ("there", "wrong"),
    [
        ([], "missing"),
        ([stored(above_limit=1)] * 2, "doubled"),
        ([stored(above_limit=1), stored(at=AT + timedelta(minutes=1))], "unexpected"),
        ([stored()], "alerts_wrong"),
        ([stored(above_limit=2)], "alerts_wrong"),
    ],
)
def test_what_is_off_is_found(there, wrong):
    found = balance([ONE], there, alerts=True)
    assert getattr(found, wrong) > 0
    assert not found.is_even


def test_an_alert_of_a_reading_that_was_none_is_wrong():
    calm = ONE._replace(instant=AT + timedelta(hours=1), alert="")
    there = [
        stored(above_limit=1),
        stored(at=AT + timedelta(hours=1), above_limit=1)._replace(reference="Observation/2"),
    ]
    assert balance([ONE, calm], there, alerts=True).alerts_wrong == 1


def test_what_is_even_is_even():
    others = [stored(above_limit=1), stored(code="67975")]
    assert balance([ONE], others, alerts=True).is_even
