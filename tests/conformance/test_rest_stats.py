"""Observation/$stats. https://hl7.org/fhir/R4/observation-operation-stats.html."""

import json
from decimal import Decimal

import pytest

LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"


def quantity(value, code, **more):
    return {"value": value, "unit": code, "system": UCUM, "code": code, **more}


def measured(patient, when, value, code="8310-5", **more):
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": patient},
        "effectiveDateTime": when,
        **({"valueQuantity": value} if value else {}),
        **more,
    }


@pytest.fixture
def patient(client):
    return f"Patient/{client.create({'resourceType': 'Patient'})['id']}"


def stats(client, patient, asked):
    response = client.get(f"Observation/$stats?subject={patient}&{asked}")
    assert response.status_code == 200, response.text
    return json.loads(response.content, parse_float=Decimal)["parameter"]


def told(parameter):
    """What the statistics of one code are, by their codes."""
    return {
        component["code"]["coding"][0]["code"]: component.get("valueQuantity", {}).get("value")
        for component in parameter["resource"]["component"]
    }


ALL = (
    "statistic=average,maximum,minimum,count,total-count,median,sum,std-dev,variance,"
    "20-percent,80-percent"
)


def test_statistics_of_one_code(client, patient):
    for day, value in enumerate((36, 37, 38, 39, 40), 1):
        client.create(measured(patient, f"2024-03-0{day}", quantity(value, "Cel")))
    client.create(measured(patient, "2024-03-06", None, dataAbsentReason={"text": "fell off"}))
    client.create(measured(patient, "2024-03-07", quantity(43, "Cel", comparator=">")))
    client.create(measured(patient, "2024-03-08", quantity(99, "Cel"), status="entered-in-error"))
    (parameter,) = stats(client, patient, f"code=8310-5&system={LOINC}&{ALL}")
    assert parameter["name"] == "statistics"
    found = told(parameter)
    assert found == {
        "average": 38, "maximum": 40, "minimum": 36, "count": 5, "total-count": 7, "median": 38,
        "sum": 190, "std-dev": Decimal("1.58113883008"), "variance": Decimal("2.5"),
        "20-percent": Decimal("36.8"), "80-percent": Decimal("39.2"),
    }  # fmt: skip
    resource = parameter["resource"]
    assert resource["resourceType"] == "Observation"
    assert resource["subject"] == {"reference": patient}
    assert resource["code"]["coding"] == [{"system": LOINC, "code": "8310-5"}]
    assert resource["component"][0]["valueQuantity"]["code"] == "Cel"


def test_what_is_told_of_vital_signs_is_some_too(client, patient):
    vital = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category",
                         "code": "vital-signs"}]}  # fmt: skip
    own = {"text": "at home"}
    client.create(
        measured(patient, "2024-03-02", quantity(61, "/min"), "8867-4", category=[own, vital])
    )
    client.create(measured(patient, "2024-03-01", quantity(60, "/min"), "8867-4", category=[vital]))
    (parameter,) = stats(client, patient, f"code=8867-4&system={LOINC}&statistic=average")
    assert parameter["resource"]["category"] == [vital]
    assert parameter["resource"]["effectivePeriod"] == {"start": "2024-03-01", "end": "2024-03-02"}
    checked = client.post(
        "Observation/$validate?profile=http://hl7.org/fhir/StructureDefinition/heartrate",
        json.loads(json.dumps(parameter["resource"], default=float)),
    )
    severities = {issue["severity"] for issue in checked.json()["issue"]}
    assert "error" not in severities, checked.text
    (nothing,) = stats(client, patient, "code=w&statistic=average")
    assert not {"category", "effectivePeriod"} & nothing["resource"].keys()


def test_a_period_limits_them(client, patient):
    for day, value in enumerate((1, 2, 3, 4), 1):
        client.create(measured(patient, f"2024-03-0{day}T10:00:00Z", quantity(value, "kg"), "w"))
    period = "2024-03-02T00:00:00Z/2024-03-03T23:59:59Z"
    (parameter,) = stats(client, patient, f"code=w&statistic=sum&period={period}")
    assert told(parameter) == {"sum": 5}
    assert parameter["resource"]["effectivePeriod"]["start"] == "2024-03-02T00:00:00Z"
    posted = client.post(
        "Observation/$stats",
        {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "subject", "valueUri": patient},
                {"name": "coding", "valueCoding": {"system": LOINC, "code": "w"}},
                {"name": "period", "valuePeriod": {"start": "2024-03-03", "end": "2024-03-04"}},
                {"name": "statistic", "valueCode": "minimum"},
                {"name": "statistic", "valueCode": "count"},
                {"name": "include", "valueBoolean": True},
            ],
        },
    )
    statistics, *sources = posted.json()["parameter"]
    assert told(statistics) == {"minimum": 3, "count": 2}
    assert [each["name"] for each in sources] == ["source", "source"]
    assert told(stats(client, patient, "code=w&statistic=count&duration=1")[0]) == {"count": 0}


def test_units_are_converted(client, patient):
    client.create(measured(patient, "2024-03-01", quantity(80.5, "kg"), "w"))
    client.create(measured(patient, "2024-03-02", quantity(79500, "g"), "w"))
    client.create(measured(patient, "2024-03-03", quantity(81, "kg"), "w"))
    (parameter,) = stats(client, patient, "code=w&statistic=minimum,maximum,mean")
    assert told(parameter) == {
        "minimum": Decimal("79.5"), "maximum": 81, "average": Decimal("80.3333333333"),
    }  # fmt: skip
    temperature = ((97.7, "[degF]"), (36.5, "Cel"))
    for value, unit in temperature:
        client.create(measured(patient, "2024-03-01", quantity(value, unit), "t"))
    (parameter,) = stats(client, patient, "code=t&statistic=min,max")
    found = told(parameter)
    assert found["minimum"] == found["maximum"] == Decimal("36.5")


def test_units_that_do_not_convert_are_an_error(client, patient):
    client.create(measured(patient, "2024-03-01", quantity(5.5, "mmol/L"), "g"))
    client.create(measured(patient, "2024-03-02", quantity(100, "mg/dL"), "g"))
    response = client.get(f"Observation/$stats?subject={patient}&code=g&statistic=average")
    assert response.status_code == 400
    assert client.issues(response)[0]["code"] == "processing"
    assert "5.5" not in response.text


def test_components_are_measurements(client, patient):
    for day, value in enumerate((120, 130), 1):
        client.create(
            measured(
                patient,
                f"2024-03-0{day}",
                None,
                "85354-9",
                component=[
                    {
                        "code": {"coding": [{"system": LOINC, "code": "8480-6"}]},
                        "valueQuantity": quantity(value, "mm[Hg]"),
                    }
                ],
            )
        )
    first, second = stats(
        client, patient, f"code=8480-6&code=85354-9&system={LOINC}&statistic=average,total-count"
    )
    assert told(first) == {"average": 125, "total-count": 2}
    assert told(second) == {"average": None, "total-count": 2}
    assert second["resource"]["component"][0]["dataAbsentReason"]


def test_the_answer_is_valid_fhir(client, patient):
    from fhir_server.definitions import load

    client.create(measured(patient, "2024-03-01", quantity(5.5, "kg"), "w"))
    response = client.get(f"Observation/$stats?subject={patient}&code=w&{ALL}&include=true")
    assert load().validator.check(json.loads(response.content, parse_float=Decimal)) == ()


@pytest.mark.parametrize(
    "asked",
    [
        "code=a&statistic=average",
        "subject=Patient/1&statistic=average",
        "subject=Patient/1&code=a",
        "subject=Patient/1&code=a&statistic=kurtosis",
        "subject=Patient/1&code=a&statistic=average&duration=x",
        "subject=Patient/1&code=a&statistic=average&period=2024",
        "subject=Patient/1&code=a&statistic=average&period=x/y",
        "subject=Patient/1&code=a&statistic=average&limit=0",
        "subject=Patient/1&code=a&statistic=average&include=yes",
        "subject=Patient/1&code=a&statistic=average&unknown=1",
        "subject=://&code=a&statistic=average",
        "subject=Patient/1,Patient/2&code=a&statistic=average",
    ],
)
def test_inputs_that_mean_nothing_are_refused(client, asked):
    response = client.get(f"Observation/$stats?{asked}")
    assert response.status_code == 400
    assert client.issues(response)[0]["severity"] == "error"
