"""Forms of readings: what is made by one says exactly what stage two itself says."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server import definitions
from fhir_server.core import resource_json
from fhir_server.core.form import Filled
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.catalog import MappingCatalog, compile_catalog
from fhir_server.core.mapping.clock import format_datetime
from fhir_server.core.mapping.forms import form_values
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.reading import Gateway, IdentifierToken, Reading, Samples
from fhir_server.core.search.index import Indexer
from fhir_server.core.search.outline import OutlinedEntries
from fhir_server.core.version import Version, next_version

NOW = datetime(2026, 1, 1, 12, 0, 0, 5000, tzinfo=UTC)
ISSUED = datetime(2026, 1, 1, 11, tzinfo=UTC)
LANGUAGE = definitions.read_mapping_language(
    [definitions.shipped_folder("terminology")], "Europe/Moscow"
)
FILES = definitions.read_mapping_files([definitions.shipped_folder("mappings")])


def every_reading(catalog: MappingCatalog) -> list[tuple[Mapping, Reading]]:
    """What all examples of all shipped mappings hold."""
    found = []
    for name, files in FILES.items():
        mapping = catalog.get(name)
        assert isinstance(mapping, Mapping)
        if mapping.is_enrolment:
            continue
        for example in files.examples:
            payload = resource_json.parse(example.payload_text.encode())
            outcomes = mapping.read(payload, Gateway(ISSUED))
            found += [(mapping, o) for o in outcomes if isinstance(o, Reading)]
    return found


READINGS = every_reading(compile_catalog(FILES, LANGUAGE))


def of_kind(kind: str) -> tuple[Mapping, Reading]:
    """One that the plainest of the mappings finds."""
    return next((m, r) for m, r in READINGS if m.name == "iot-hub" and r.kind == kind)


@pytest.fixture(scope="module")
def loaded() -> Any:
    return definitions.load()


@pytest.fixture(scope="module")
def indexer(loaded: Any) -> Indexer:
    return Indexer(loaded.parameters, loaded.element_types, "Europe/Moscow")


@pytest.fixture
def placement() -> Placement:
    return Placement(
        ResourceKey("Patient", "p1"), ResourceKey("Device", "d1"), IdentifierToken("urn:x", "SN-1")
    )


def made_by_form(
    mapping: Mapping, specimen: Reading, reading: Reading, placed: Placement, key: ResourceKey
) -> tuple[Version, Filled] | None:
    """`reading` by the form that `specimen`, of the same shape, was the first of."""
    forms = mapping.forms(specimen)
    shape = forms.shape(specimen, placed) if forms else None
    if not forms or not shape or forms.shape(reading, placed) != shape:
        return None
    form = forms.find(shape) or forms.add(
        shape, specimen, placed, mapping.project(specimen, placed, ISSUED)
    )
    return form.create(key, NOW, form_values(reading, placed, ISSUED))


decimals = st.decimals(allow_nan=False, allow_infinity=False, places=3).map(
    Decimal
) | st.sampled_from(
    [
        Decimal("120"),
        Decimal("120.0"),
        Decimal("0"),
        Decimal("-0.0"),
        Decimal("1E-30"),
        Decimal(9**20),
    ]
)
offsets = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
moments = st.tuples(st.integers(0, 9**15), offsets).map(
    lambda drawn: datetime(1950, 1, 1, tzinfo=drawn[1]) + timedelta(microseconds=drawn[0])
)
ids = st.from_regex(r"[A-Za-z0-9\-.]{1,64}", fullmatch=True)


@settings(deadline=None)
@given(data=st.data())
def test_a_form_says_what_stage_two_and_the_index_say(
    data: st.DataObject, indexer: Indexer, loaded: Any
) -> None:
    mapping, specimen = data.draw(st.sampled_from(READINGS))
    placed = Placement(
        ResourceKey("Patient", data.draw(ids)),
        ResourceKey("Device", data.draw(ids)),
        IdentifierToken("urn:x", data.draw(st.text(max_size=20))),
        tuple(ResourceKey("CarePlan", i) for i in data.draw(st.lists(ids, max_size=2))),
        data.draw(st.booleans()),
    )
    measured = data.draw(moments)
    reading = specimen._replace(
        stamp=data.draw(st.text(max_size=10)),
        measured=measured,
        effective=specimen.effective and format_datetime(measured),
        values=tuple(
            value._replace(
                value=data.draw(decimals) if type(value.value) is Decimal else value.value,
                original=None if value.original is None else data.draw(decimals),
            )
            for value in specimen.values
        ),
    )
    key = ResourceKey("Observation", data.draw(ids))
    made = made_by_form(mapping, specimen, reading, placed, key)
    if made is None:
        return
    version, filled = made
    expected, stored = next_version(None, key, mapping.project(reading, placed, ISSUED), NOW)
    assert version == expected
    assert resource_json.format(filled.resource()) == expected.body
    entries = indexer(filled)
    assert isinstance(entries, OutlinedEntries)
    posted = indexer.index(version.resource())
    assert entries == posted
    for kind, shared, own in zip(entries, entries.outline.shared, entries.own, strict=True):
        assert set(kind) == {*shared, *own}
        assert len(kind) == len(shared) + len(own)
    assert loaded.validator.check(stored) == ()


def test_most_of_what_devices_send_has_a_form(placement: Placement) -> None:
    kinds = {True: set(), False: set()}
    for mapping, reading in READINGS:
        forms = mapping.forms(reading)
        kinds[bool(forms and forms.shape(reading, placement))].add(reading.kind)
    assert {"blood-pressure", "heart-rate", "body-weight", "glucose"} <= kinds[True]


@pytest.mark.parametrize(
    "rare",
    [
        {"effective": ""},
        {"effective": "2022-07-01T12:02:00+23:59"},
        {"duration": Decimal(60)},
        {"note": "after a walk"},
        {"focus": "fetus 1"},
    ],
    ids=lambda rare: next(iter(rare)),
)
def test_what_is_rare_has_no_form(rare: dict[str, Any], placement: Placement) -> None:
    mapping, reading = of_kind("blood-pressure")
    forms = mapping.forms(reading)
    assert forms is not None
    assert forms.shape(reading, placement) is not None
    assert forms.shape(reading._replace(**rare), placement) is None


def test_a_trace_and_a_word_of_the_devices_own_have_no_form(placement: Placement) -> None:
    mapping, reading = of_kind("heart-rate")
    forms = mapping.forms(reading)
    assert forms is not None
    for value in (Samples(Decimal(1), "1 2"), "what nobody has defined"):
        odd = reading._replace(values=(reading.values[0]._replace(value=value),))
        assert forms.shape(odd, placement) is None


def test_what_makes_an_observation_another_makes_the_shape_another(placement: Placement) -> None:
    mapping, reading = of_kind("heart-rate")
    forms = mapping.forms(reading)
    assert forms is not None
    first = reading.values[0]
    others = [
        (reading._replace(values=(first._replace(comparator=">"),)), placement),
        (reading._replace(values=(first._replace(unit="other"),)), placement),
        (reading._replace(values=(first._replace(value=None, absent="error"),)), placement),
        (reading._replace(flags=("above-range",)), placement),
        (reading._replace(supplements=("average",)), placement),
        (reading, placement._replace(is_auxiliary=True)),
        (reading, placement._replace(based_on=(ResourceKey("CarePlan", "c"),))),
    ]
    shapes = [forms.shape(*each) for each in [(reading, placement), *others]]
    assert len(set(shapes)) == len(shapes)
    assert None not in shapes


def test_forms_stay_few_whatever_comes(placement: Placement) -> None:
    mapping, reading = of_kind("heart-rate")
    forms = mapping.forms(reading)
    assert forms is not None
    specimen = mapping.project(reading, placement, ISSUED)
    for number in range(1_200):
        forms.add(("shape", number), reading, placement, specimen)
    assert sum(forms.find(("shape", number)) is not None for number in range(1_200)) <= 500
