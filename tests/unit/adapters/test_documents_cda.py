"""The document that a plan becomes: its people, its sections, and always the same bytes."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from adapters.national_registry.documents.cda import compose
from adapters.national_registry.documents.compose import House, Place, compose_content
from adapters.national_registry.documents.content import Kind
from adapters.national_registry.documents.facts import Facts
from adapters.national_registry.documents.parties import Organization
from adapters.national_registry.documents.summary import summarize
from adapters.national_registry.documents.xml_tree import read
from fhir_server.errors import DeliveryRejected
from tests.faults.registry_scene import device, doctor, patient, plan, reading

LOINC = "http://loinc.org"
HOUSE = House(Organization("1.2.3", "Клиника <№ 1> & Ко", "1027700132195", "Москва"))
PLACE = Place("11111111-0000-4000-8000-000000000001", "set", 2, "before")
PERIOD = (date(2024, 5, 1), date(2024, 5, 7))
CREATED = datetime(2024, 5, 8, 21, 30, tzinfo=UTC)


def goal(**target):
    coded = {"coding": [{"system": LOINC, "code": "8480-6"}]}
    return {"resourceType": "Goal", "target": [{"measure": coded, **target}]}


def limits(low, high, unit="mm[Hg]"):
    quantity = {"unit": unit, "system": "http://unitsofmeasure.org", "code": unit}
    return {"detailRange": {"low": {"value": low, **quantity}, "high": {"value": high, **quantity}}}


def facts(**changes):
    condition = {
        "resourceType": "Condition",
        "code": {
            "coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "I10"}],
            "text": "Гипертензия",
        },
    }
    made = Facts(
        plan("p", "completed"),
        patient("p", "11223344595"),
        doctor(),
        (goal(**limits(90, 121)),),
        (condition,),
        (device("p"),),
        tuple(reading("p", n) for n in range(4)),
    )
    return made._replace(**changes)


def content(kind=Kind.PROTOCOL, house=HOUSE, **changes):
    return compose_content(facts(**changes), kind, PERIOD, PLACE, house, CREATED)


def titles(root):
    sections = (node for node in root.walk() if node.name == "section")
    return [section.text_of("title") for section in sections]


@pytest.mark.parametrize("kind", list(Kind))
def test_the_same_content_gives_the_same_bytes(kind):
    first, second = compose(content(kind)), compose(content(kind))
    assert first == second
    assert first.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<ClinicalDocument')


@pytest.mark.parametrize(
    ("kind", "guide", "sections"),
    [
        (
            Kind.REFERRAL,
            "1.2.643.5.1.13.13.15.134.1",
            ["Диагноз", "Назначенные измерения", "Индивидуальные пределы", "Приборы"],
        ),
        (
            Kind.PROTOCOL,
            "1.2.643.5.1.13.13.15.123.1",
            [
                "Диагноз",
                "Результаты дистанционного наблюдения",
                "Соблюдение назначений",
                "Приборы",
            ],
        ),
    ],
)
def test_each_kind_has_its_guide_and_its_sections(kind, guide, sections):
    body = compose(content(kind))
    assert f'<templateId root="{guide}" />'.encode() in body
    assert f'code="{kind.value}" codeSystem="1.2.643.5.1.13.13.11.1520"'.encode() in body
    assert titles(read(body)) == sections


def test_people_and_organization_stand_in_it_with_their_numbers():
    text = compose(content()).decode()
    assert '<id root="1.2.643.100.3" extension="11223344595" />' in text
    assert '<id root="1.2.643.100.3" extension="17400354229" />' in text
    assert '<id root="1.2.643.100.1" extension="1027700132195" />' in text
    assert "Клиника &lt;№ 1&gt; &amp; Ко" in text
    assert '<identity:InsurancePolicy nullFlavor="NI" />' in text
    assert '<birthTime value="19610203" />' in text
    # The clinic's own evening, not ours in UTC.
    assert '<effectiveTime value="202405090030+0300" />' in text


def test_a_version_says_what_it_replaces():
    text = compose(content()).decode()
    assert '<versionNumber value="2" />' in text
    assert 'extension="before"' in text


def test_a_policy_stands_in_it():
    known = patient("p", "11223344595")
    policy = {"system": "https://fhir.ru/ig/core/systems/oms", "value": "1234567890123452"}
    known["identifier"].append(policy)
    assert ">1234567890123452<" in compose(content(patient=known)).decode()


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"identifier": []}, r"Patient\.identifier"),
        ({"gender": "unknown"}, r"Patient\.gender"),
        ({"birthDate": "1961"}, r"Patient\.birthDate"),
        ({"name": [{"family": "X"}]}, "name"),
    ],
)
def test_what_is_missing_is_named_without_its_value(change, path):
    with pytest.raises(DeliveryRejected, match=path) as refused:
        content(patient=patient("p", "11223344595") | change)
    assert "Иванова" not in str(refused.value)


def test_a_wrong_snils_is_refused_only_when_strict():
    wrong = patient("p", "11223344596")
    assert content(patient=wrong).patient.snils == "11223344596"
    with pytest.raises(DeliveryRejected, match="check digits"):
        content(patient=wrong, house=HOUSE._replace(is_strict=True))


def test_a_row_has_mean_limits_and_share():
    (diastolic, systolic) = summarize(facts().readings, facts().goals)
    assert (systolic.measured, systolic.days, systolic.unit) == (4, 4, "mmHg")
    assert (systolic.mean, systolic.lowest, systolic.highest) == (Decimal("121.5"), 120, 123)
    assert (systolic.low, systolic.high, systolic.within) == (90, 121, 2)
    assert diastolic.within is None


def test_limits_in_another_unit_are_converted():
    goals = (goal(**limits(12, Decimal("16.2"), "kPa")),)
    (_, row) = summarize(facts().readings, goals)
    assert round(row.low, 3) == Decimal("90.008")
    assert row.within == 2
    assert "90.01 – 121.51" in compose(content(goals=goals)).decode()


def test_entered_in_error_and_auxiliary_readings_do_not_count():
    tag = {
        "system": "https://pmp.example/fhir/CodeSystem/device-standing",
        "code": "auxiliary",
    }
    wrong = reading("p", 1) | {"status": "entered-in-error"}
    auxiliary = reading("p", 2) | {"meta": {"tag": [tag]}}
    (_, row) = content(readings=(reading("p", 0), wrong, auxiliary)).rows
    assert row.measured == 1
    counted = HOUSE._replace(is_auxiliary_counted=True)
    (_, row) = content(readings=(reading("p", 0), wrong, auxiliary), house=counted).rows
    assert row.measured == 2


def test_units_that_do_not_convert_make_no_row():
    odd = reading("p", 1)
    odd["component"][0]["valueQuantity"] |= {"unit": "kg", "code": "kg"}
    codes = {row.code.code for row in summarize([reading("p", 0), odd], [])}
    assert codes == {"8462-4"}


def test_adherence_counts_what_was_asked_for():
    (line,) = content().adherence
    assert (line.planned, line.done) == (14, 4)


def test_a_plan_without_readings_says_so():
    assert "Нет данных" in compose(content(readings=())).decode()
