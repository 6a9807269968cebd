"""The oracle: each rule of R4's search page on resources small enough to see."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.quantity import UCUM
from fhir_server.core.search.match import Indexed, matches, sort_values
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.query import (
    Restriction,
    SortKey,
)
from fhir_server.core.version import Version
from tests.unit.search.searched import LOINC, Find, amount, coded, observation, patient

OBSERVATIONS = [
    observation("loinc", code=coded((LOINC, "1"))),
    observation("both", code=coded((LOINC, "1"), ("s", "2"))),
    observation("bare", code=coded(("", "1"))),
    observation("other", code=coded(("s", "1"))),
    observation("text", code=coded(text="Blood Pressure, systolic")),
    observation("none"),
]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("code", "1", "loinc both bare other"),
        ("code", f"{LOINC}|1", "loinc both"),
        ("code", "|1", "bare"),
        ("code", f"{LOINC}|", "loinc both"),
        ("code", "s|1,s|2", "both other"),
        ("code", "9", ""),
        ("code:not", f"{LOINC}|1", "bare other text none"),
        ("code:not", f"{LOINC}|1,s|1", "bare text none"),
        ("code:missing", "true", "none"),
        ("code:missing", "false", "loinc both bare other text"),
        ("code:text", "blood", "text"),
        ("code:text", "systolic", ""),
        ("combo-code", "s|2", "both"),
    ],
)
def test_tokens(find: Find, name: str, text: str, found: str) -> None:
    assert find(OBSERVATIONS, "Observation", (name, text)) == found.split()


PATIENTS = [
    patient("anna", name=[{"family": "Müller", "given": ["Anna Maria"]}], birthDate="1970-05-01"),
    patient("ivan", name=[{"family": "Мюллер"}], gender="male", birthDate="1970"),
    patient("nobody", _birthDate={"extension": []}),
]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("family", "mul", "anna"),
        ("family", "MÜLLER", "anna"),
        ("family", "ller", ""),
        ("family:contains", "LLE", "anna"),
        ("family:exact", "Müller", "anna"),
        ("family:exact", "müller", ""),
        ("family:exact", "Mül", ""),
        ("family", "мю", "ivan"),
        ("name", "anna  maria", "anna"),
        ("phonetic", "anna", "anna"),
        ("family:missing", "true", "nobody"),
        # An element of extensions alone has no value.
        ("birthdate:missing", "true", "nobody"),
        ("birthdate", "1970", "anna ivan"),
        ("birthdate", "1970-05", "anna"),
        ("birthdate", "ne1970-05", "ivan"),
        ("_id", "anna,nobody", "anna nobody"),
        ("_id:not", "anna", "ivan nobody"),
    ],
)
def test_strings_and_more(find: Find, name: str, text: str, found: str) -> None:
    assert find(PATIENTS, "Patient", (name, text)) == found.split()


def test_criteria_all_count(find: Find) -> None:
    assert find(PATIENTS, "Patient", ("birthdate", "1970"), ("gender", "male")) == ["ivan"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # asked: the 14th; day, within it, around it, before, after, from the 13th on, to the 14th
        ("2013-01-14", "day within"),
        ("ne2013-01-14", "around before after from until"),
        ("gt2013-01-14", "around after from"),
        ("ge2013-01-14", "day within around after from"),
        ("lt2013-01-14", "around before from until"),
        ("le2013-01-14", "day within around before from until"),
        ("sa2013-01-14", "after"),
        ("eb2013-01-14", "before"),
        ("2013", "day within around before after"),
    ],
)
def test_dates_compare_as_ranges(find: Find, text: str, found: str) -> None:
    observations = [
        observation("day", effectiveDateTime="2013-01-14"),
        observation("within", effectiveDateTime="2013-01-14T10:00:00+03:00"),
        observation("around", effectivePeriod={"start": "2013-01-13", "end": "2013-01-15"}),
        observation("before", effectiveDateTime="2013-01-13"),
        observation("after", effectiveDateTime="2013-01-15"),
        observation("from", effectivePeriod={"start": "2013-01-13"}),
        observation("until", effectivePeriod={"end": "2013-01-14"}),
        observation("none"),
    ]
    assert find(observations, "Observation", ("date", text)) == found.split()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("100", "a100 a100.4 a99.5"),
        ("100.0", "a100"),
        ("100.00", "a100"),
        ("1e2", "a100 a100.4 a99.5 a110"),
        ("ne100", "a110 low high"),
        ("gt100", "a100.4 a110 high"),
        ("lt100", "a99.5 low"),
        ("ge100", "a100 a100.4 a110 high"),
        ("le100", "a100 a99.5 low"),
        ("sa100", "a100.4 a110 high"),
        ("eb100", "a99.5 low"),
        ("ap100", "a100 a100.4 a99.5 a110 high"),
    ],
)
def test_quantities_without_a_unit(find: Find, text: str, found: str) -> None:
    # 99.5 is within 100 rounded: the range is [99.5, 100.5).
    observations = [
        observation(f"a{v}", valueQuantity=amount(v, "mg")) for v in ("100", "100.4", "99.5", "110")
    ]
    observations += [
        observation("low", valueQuantity={"value": 20, "comparator": "<"}),
        observation("high", valueQuantity={"value": 105, "comparator": ">"}),
    ]
    assert find(observations, "Observation", ("value-quantity", text)) == found.split()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"1|{UCUM}|g", "gram milligram"),
        (f"1000|{UCUM}|mg", "gram milligram"),
        (f"gt0.5|{UCUM}|g", "gram milligram kilogram"),
        (f"1|{UCUM}|kg", "kilogram"),
        (f"1|{UCUM}|mL", ""),
        ("1||g", "gram unit"),
        ("1||spoon", "spoon"),
        ("1", "gram kilogram unit spoon"),
        (f"1|{UCUM}|spoons", ""),
    ],
)
def test_quantities_compare_in_canonical_units(find: Find, text: str, found: str) -> None:
    observations = [
        observation("gram", valueQuantity=amount("1", "g", "gram")),
        observation("milligram", valueQuantity=amount("1000", "mg")),
        observation("kilogram", valueQuantity=amount("1", "kg")),
        observation("unit", valueQuantity=amount("1", unit="g")),
        observation("spoon", valueQuantity={"value": 1, "system": "s", "code": "spoon"}),
    ]
    assert find(observations, "Observation", ("value-quantity", text)) == found.split()


def test_more_digits_than_were_stored_still_find_it(find: Find) -> None:
    stored = [observation("a", valueQuantity=amount("5.4", "mmol/L"))]
    for text, found in [("5.40", ["a"]), ("gt5.4", []), ("5.41", []), ("5", ["a"]), ("5.", ["a"])]:
        assert find(stored, "Observation", ("value-quantity", text)) == found


REFERRING = [
    patient("p1", name=[{"family": "A"}], managingOrganization={"reference": "Organization/o1"}),
    patient("p2", name=[{"family": "B"}]),
    {"resourceType": "Organization", "id": "o1", "name": "Clinic"},
    {"resourceType": "Group", "id": "p1", "type": "person", "actual": True},
    observation("one", subject={"reference": "Patient/p1"}, code=coded(("", "x"))),
    observation("two", subject={"reference": "Patient/p2/_history/4"}, code=coded(("", "x"))),
    observation("group", subject={"reference": "Group/p1"}),
    observation("far", subject={"reference": "http://far/fhir/Patient/p1"}),
    observation("logical", subject={"identifier": {"system": "s", "value": "1"}}),
    observation("inside", subject={"reference": "#p1"}),
    observation("none"),
]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("subject", "Patient/p1", "one"),
        ("subject", "p1", "one group"),
        ("patient", "p1", "one"),
        ("patient", "Group/p1", ""),
        ("subject:Group", "p1", "group"),
        ("subject", "http://here/fhir/Patient/p1", "one"),
        ("subject", "http://far/fhir/Patient/p1", "far"),
        ("patient", "http://far/fhir/Patient/p1", ""),
        ("subject", "Patient/p2", "two"),
        ("subject", "Patient/p2/_history/4", "two"),
        ("subject", "Patient/p2/_history/5", ""),
        ("subject:identifier", "s|1", "logical"),
        ("patient:identifier", "1", "logical"),
        ("subject:missing", "true", "inside none"),
        ("subject:missing", "false", "one two group far logical"),
        ("patient:missing", "false", "one two logical"),
        ("subject:Patient.family", "a,b", "one two"),
        ("subject.family", "a", "one"),
        ("patient.organization.name", "cli", "one"),
        ("patient._id", "p2", "two"),
        ("patient.family:missing", "true", ""),
        ("subject:Group.actual", "true", "group"),
        ("subject._has:Observation:subject:code", "x", "one two"),
    ],
)
def test_references_and_chains(find: Find, name: str, text: str, found: str) -> None:
    assert find(REFERRING, "Observation", (name, text)) == found.split()


@pytest.mark.parametrize(
    ("resource_type", "name", "text", "found"),
    [
        ("Patient", "_has:Observation:patient:code", "x", "p1 p2"),
        ("Patient", "_has:Observation:patient:_id", "two", "p2"),
        ("Patient", "_has:Observation:patient:code", "y", ""),
        ("Organization", "_has:Patient:organization:_has:Observation:patient:code", "x", "o1"),
        ("Group", "_has:Observation:subject:_id", "group", "p1"),
    ],
)
def test_has_looks_from_the_other_end(
    find: Find, resource_type: str, name: str, text: str, found: str
) -> None:
    assert find(REFERRING, resource_type, (name, text)) == found.split()


def test_a_restriction_hides_along_every_way(
    index: Any, read: Any, parameters: SearchParameters
) -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    world = [
        (index(r), Version(ResourceKey(r["resourceType"], r["id"]), 1, moment, "create", b"{}"))
        for r in REFERRING
    ]

    def resolve(wanted: str) -> list[Any]:
        return [Indexed(e, v) for e, v in world if v.key.resource_type == wanted]

    only_p2 = read("Patient", ("_id", "p2")).query.criteria
    restriction = Restriction((("Patient", only_p2),))
    chain = read("Observation", ("patient.family", "a,b")).query.criteria
    seen = [
        v.key.resource_id
        for e, v in world
        if v.key.resource_type == "Observation" and matches(e, v, chain, resolve, restriction)
    ]
    assert seen == ["two"]
    hidden = next((e, v) for e, v in world if v.key == ("Patient", "p1"))
    assert not matches(*hidden, (), resolve, restriction)


def test_identifiers_of_a_type(find: Find) -> None:
    kind = coded(("t", "MR"))
    stored = [
        patient("a", identifier=[{"system": "s", "value": "1", "type": kind}]),
        patient("b", identifier=[{"system": "s", "value": "1"}]),
    ]
    assert find(stored, "Patient", ("identifier:of-type", "t|MR|1")) == ["a"]
    assert find(stored, "Patient", ("identifier", "s|1")) == ["a", "b"]


def test_last_updated_is_a_date_of_the_version(find: Find) -> None:
    # Stored one second apart, from 12:00:01 in UTC.
    stored = [patient("a"), patient("b"), patient("c")]
    for text, found in [
        ("gt2024-06-01T12:00:01Z", ["b", "c"]),
        ("2024-06-01T12:00:02Z", ["b"]),
        ("lt2024-06-01T12:00:02Z", ["a"]),
        ("2024-06-01", ["a", "b", "c"]),
    ]:
        assert find(stored, "Patient", ("_lastUpdated", text)) == found


@pytest.mark.parametrize(
    ("sort", "found"),
    [
        ("date", "two one three none"),
        ("-date", "three one two none"),
        ("code", "three one two none"),
        ("-code,date", "two one three none"),
        ("value-quantity", "three two one none"),
        ("-_lastUpdated", "none three two one"),
        ("_id", "none one three two"),
        ("-_id", "two three one none"),
        ("status,-date", "three one two none"),
    ],
)
def test_sorting_puts_what_has_no_value_last(find: Find, sort: str, found: str) -> None:
    observations = [
        observation("one", effectiveDateTime="2024-02", code=coded(("", "b")),
                    valueQuantity=amount("1", "kg")),
        observation("two", effectivePeriod={"start": "2024-01", "end": "2024-12"},
                    code=coded(("", "c"), ("", "b")), valueQuantity=amount("5", "g")),
        observation("three", effectiveDateTime="2024-03", code=coded(("", "a")),
                    valueQuantity=amount("1", "g")),
        observation("none"),
    ]  # fmt: skip
    assert find(observations, "Observation", ("_sort", sort)) == found.split()


def test_many_values_sort_by_the_lowest_or_the_highest(
    index: Any, parameters: SearchParameters
) -> None:
    given_names = parameters.get("Patient", "given")
    assert given_names is not None
    entries = index(patient("a", name=[{"given": ["B", "A"]}, {"given": ["C"]}]))
    version = Version(
        ResourceKey("Patient", "a"), 1, datetime(2024, 1, 1, tzinfo=UTC), "create", b""
    )
    keys = (SortKey(given_names, False), SortKey(given_names, True))
    assert sort_values(entries, version, keys) == ("a", "c")


def test_a_version_is_as_old_as_its_milliseconds(read: Any, index: Any) -> None:
    moment = datetime(2024, 6, 1, 12, 0, 0, tzinfo=UTC) + timedelta(milliseconds=5)
    version = Version(ResourceKey("Patient", "a"), 1, moment, "create", b"")
    for text, found in [
        ("2024-06-01T12:00:00.005Z", True),
        ("2024-06-01T12:00:00.006Z", False),
        ("gt2024-06-01T12:00:00.005Z", False),
        ("ge2024-06-01T12:00:00.005Z", True),
    ]:
        criteria = read("Patient", ("_lastUpdated", text)).query.criteria
        assert matches(index(patient("a")), version, criteria, lambda _: ()) is found
