"""The oracle: each rule of R4's search page on resources small enough to see."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.date_range import DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.quantity import UCUM
from fhir_server.core.search.compare import entry_matches
from fhir_server.core.search.entry import GREATEST, LEAST, DateEntry, NumberEntry
from fhir_server.core.search.match import Indexed, matches, sort_values
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.query import (
    DateValue,
    NumberValue,
    Prefix,
    Restriction,
    SortKey,
)
from fhir_server.core.version import Version

Find = Callable[..., list[str]]
LOINC = "http://loinc.org"


def patient(resource_id: str, **elements: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": resource_id, **elements}


def observation(resource_id: str, **elements: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": resource_id, **elements}


def coded(*codes: tuple[str, str], text: str = "") -> dict[str, Any]:
    coding = [{k: v for k, v in (("system", s), ("code", c)) if v} for s, c in codes]
    concept: dict[str, Any] = {"coding": coding} if coding else {}
    return {**concept, "text": text} if text else concept


def amount(value: str, code: str = "", unit: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"value": Decimal(value)}
    if code:
        found |= {"system": UCUM, "code": code}
    return {**found, "unit": unit} if unit else found


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


def component(code: str, value: str) -> dict[str, Any]:
    return {"code": coded(("s", code)), "valueQuantity": amount(value, "mm[Hg]")}


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("component-code-value-quantity", "s|sys$gt140", "high"),
        ("component-code-value-quantity", "s|dia$gt140", ""),
        ("component-code-value-quantity", "s|sys$gt140,s|dia$80", "high normal"),
        ("component-code-value-quantity", "s|sys$gt140,s|dia$90", "high"),
        ("combo-code-value-quantity", "s|sys$120", "normal flat"),
        ("code-value-quantity", "s|sys$120", "flat"),
        ("code-value-quantity", "s|bp$120", ""),
    ],
)
def test_the_parts_of_a_composite_match_within_one_element(
    find: Find, name: str, text: str, found: str
) -> None:
    observations = [
        observation("high", component=[component("sys", "150"), component("dia", "90")]),
        observation("normal", component=[component("sys", "120"), component("dia", "80")],
                    code=coded(("s", "bp"))),
        observation("flat", code=coded(("s", "sys")), valueQuantity=amount("120", "mm[Hg]")),
    ]  # fmt: skip
    assert find(observations, "Observation", (name, text)) == found.split()


def test_a_part_of_the_whole_resource_goes_with_each_element(find: Find) -> None:
    sequence = {
        "resourceType": "MolecularSequence",
        "id": "m",
        "referenceSeq": {"chromosome": coded(("", "1"))},
        "variant": [{"start": 1, "end": 2}, {"start": 3, "end": 4}],
    }
    name = "chromosome-variant-coordinate"
    assert find([sequence], "MolecularSequence", (name, "1$3$4")) == ["m"]
    assert find([sequence], "MolecularSequence", (name, "1$1$4")) == []
    assert find([sequence], "MolecularSequence", (name, "2$3$4")) == []


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


numbers = st.decimals(-20, 20, places=1)
precise = st.integers(-20, 20).map(Decimal)


def _number(prefix: Prefix, value: Decimal) -> NumberValue:
    return NumberValue(prefix, value, value - Decimal("0.5"), value + Decimal("0.5"))


@given(numbers, numbers, precise)
def test_number_prefixes_are_consistent(a: Decimal, b: Decimal, value: Decimal) -> None:
    for entry in (
        NumberEntry("x", min(a, b), max(a, b)),
        NumberEntry("x", a, a),
        NumberEntry("x", LEAST, a),
        NumberEntry("x", a, GREATEST),
    ):
        found = {p: entry_matches(entry, "", _number(p, value)) for p in Prefix}
        assert found[Prefix.EQ] is not found[Prefix.NE]
        assert found[Prefix.GE] or found[Prefix.LT]
        assert found[Prefix.LE] or found[Prefix.GT]
        assert not (found[Prefix.SA] and found[Prefix.EB])
        assert found[Prefix.SA] <= found[Prefix.GT] <= found[Prefix.GE]
        assert found[Prefix.EB] <= found[Prefix.LT] <= found[Prefix.LE]
        if entry.low == entry.high:
            assert found[Prefix.GT] is (entry.low > value)
            assert found[Prefix.GE] is (entry.low >= value)
            assert found[Prefix.LT] is (entry.low < value)


ranges = st.tuples(st.integers(0, 20), st.integers(1, 5)).map(lambda t: DateRange(t[0], sum(t)))


@given(ranges, ranges)
def test_date_prefixes_are_consistent(stored: DateRange, asked: DateRange) -> None:
    found = {p: entry_matches(DateEntry("x", stored), "", DateValue(p, asked)) for p in Prefix}
    moments = set(range(*stored))
    inside = moments <= set(range(*asked))
    assert found[Prefix.EQ] is inside
    assert found[Prefix.NE] is not inside
    assert found[Prefix.GT] is any(m >= asked.end for m in moments)
    assert found[Prefix.LT] is any(m < asked.start for m in moments)
    assert found[Prefix.GE] is (found[Prefix.GT] or inside)
    assert found[Prefix.LE] is (found[Prefix.LT] or inside)
    assert found[Prefix.SA] is all(m >= asked.end for m in moments)
    assert found[Prefix.EB] is all(m < asked.start for m in moments)
    assert found[Prefix.AP] is any(asked.start <= m < asked.end for m in moments)


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
