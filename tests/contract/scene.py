"""A scene for searches: generated resources of few values, and queries that meet them."""

from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from hypothesis import strategies as st

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.match import Indexed
from fhir_server.core.search.query import Query
from fhir_server.store.protocol import Page
from tests.contract.world import (
    DATES,
    LOINC,
    MDC,
    NAMES,
    TERMINOLOGY,
    UCUM,
    World,
)

TOKENS = ["a", "b", f"{LOINC}|a", f"{MDC}|a", "|a", f"{LOINC}|", "zz", "a,b", f"{MDC}|c,b"]


IDENTIFIERS = ["1", "urn:s|1", "|1", "urn:t|", "x\\|y", "urn:s|A,a", "none"]


PREFIXES = ["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]


TIMES = [f"{prefix}{date}" for prefix in PREFIXES for date in DATES]


AMOUNTS = [
    f"{prefix}{number}{unit}"
    for prefix in PREFIXES
    for number in ("120", "1.2e2", "0.12", "0", "119.5", "100000000000000000001")
    for unit in ("", f"|{UCUM}|mm[Hg]", f"|{UCUM}|kPa", "||mm[Hg]", f"|{UCUM}|g", "||pills")
]


STRINGS = ["ива", "Müller", "mul", "al", "AL ghul", "%", "_", "neil", "o'", "x,ива"]


PATIENTS = ["Patient/1", "2", "Patient/1,3", "https://other.example/fhir/Patient/2",
            "Patient/1/_history/1", "Group/1", "http://example.org/fhir/Patient/3"]  # fmt: skip


MISSING = ["true", "false"]


SETS = ["urn:set:some", "urn:set:most", "urn:set:below,urn:set:some"]


BELOW = [f"{LOINC}|a", f"{LOINC}|b", f"{LOINC}|x,{LOINC}|b"]


WORDS = ["blood", "BLOOD NOT normal", "норм* or tension", "dav* (blood or gewicht)", "zz", "b*",
         "hyper-tension", "давление,test", "NOT blood", "x AND NOT (normal OR норма)"]  # fmt: skip


FILTERS = ["_id eq 1", "_id ne 2 and _id ne 3", "not (_id eq 1 or _id eq 2)",
           "_lastUpdated gt 2024-05-01T12:00:30Z or _id eq 1 and _id eq 2"]  # fmt: skip


CRITERIA: dict[str, dict[str, list[str]]] = {
    "Observation": {
        "code": TOKENS, "code:not": TOKENS, "code:text": ["blood", "дав", "x"],
        "code:missing": MISSING, "category": TOKENS, "category:not": TOKENS,
        "combo-code": TOKENS, "component-code": TOKENS, "status": ["final", "amended,final"],
        "identifier": IDENTIFIERS, "identifier:not": IDENTIFIERS, "identifier:missing": MISSING,
        "identifier:of-type": [f"{LOINC}|a|1"], "identifier:text": ["blood"],
        "subject": PATIENTS, "patient": ["1", "Patient/2", "Patient/1,Patient/2,3,4,5"],
        "patient:missing": MISSING, "subject:missing": MISSING, "subject:Patient": ["1"],
        "subject:identifier": IDENTIFIERS, "performer": ["Patient/1", "1"], "device": ["1", "2,3"],
        "date": TIMES, "date:missing": MISSING, "value-quantity": AMOUNTS,
        "value-quantity:missing": MISSING, "combo-value-quantity": AMOUNTS,
        "component-value-quantity": AMOUNTS, "value-string": STRINGS,
        "value-string:exact": NAMES, "value-string:contains": ["ll", "ван", "%"],
        "value-concept": TOKENS, "_id": ["1", "1,2,9"], "_lastUpdated": TIMES[:40],
        "subject:Patient.name": STRINGS, "patient.identifier": IDENTIFIERS,
        "patient.birthdate": TIMES[:24], "subject.gender": ["male"],
        "device.patient.gender": ["male"],
        "performer:Patient.general-practitioner": ["Practitioner/1"],
        "_has:Observation:has-member:code": TOKENS, "has-member.status": ["final"],
        "has-member.has-member.code": TOKENS,
        "component-code-value-quantity": ["a$gt100", f"{LOINC}|b$120", f"{MDC}|c$ne1"],
        "code-value-quantity": ["a$gt0", f"{LOINC}|a$120||pills"],
        "combo-code-value-quantity": ["a$gt100,b$lt1"],
        "code:in": SETS, "code:not-in": SETS, "code:below": BELOW, "code:above": BELOW,
        "combo-code:in": SETS, "category:not-in": SETS, "_list": ["1", "2,List/3", "77"],
        "_content": WORDS, "_text": WORDS, "subject:Patient._text": WORDS,
        "performer:Patient.organization.name": STRINGS,
        "_filter": [
            *FILTERS, f"code in urn:set:some or code ss {LOINC}|b", "date po 2024-03-05",
            "value-string ew ov and not (status eq final)", "value-quantity gt 100 or date ap 2024",
            f"code ne {MDC}|a", "category ne a and identifier pr false", "identifier ne 1",
            f"value-quantity le 120|{UCUM}|mm[Hg]", "device.patient.gender eq male or code eq b",
            "subject:Patient.name co \"ив\" and code eq a", "subject re Patient/1 or _id eq 2",
            "not (subject.id eq 3 and not (date pr true))", "value-string ne al",
        ],
        "code-value-concept": ["a$b", f"{LOINC}|a$a"],
    },
    "Patient": {
        "name": STRINGS, "family": STRINGS, "family:exact": NAMES, "given:contains": ["а", "l"],
        "family:missing": MISSING, "identifier": IDENTIFIERS, "gender": ["male", "female"],
        "gender:not": ["male"], "gender:missing": MISSING, "active": MISSING, "birthdate": TIMES,
        "telecom": ["1", "phone|1"], "phone": ["1"], "email": ["1"], "_tag": TOKENS,
        "_profile": ["urn:p1", "urn:p2"], "_source": ["urn:src"], "_id": ["1", "2,3", "x"],
        "_id:not": ["1"],
        "general-practitioner": ["Practitioner/1", "2"], "general-practitioner:missing": MISSING,
        "_has:Observation:patient:code": TOKENS, "_has:Observation:subject:date": TIMES[:30],
        "_has:Device:patient:_has:Observation:device:code": TOKENS,
        "_has:Observation:performer:_id": ["1", "2"],
        "_has:RiskAssessment:subject:probability": ["0.1", "ne0"],
        "_has:Observation:patient:_lastUpdated": ["gt2020"],
        "_lastUpdated": ["gt2024-05-01T15:00:30+03:00", "le2024-05-01T15:00:20+03:00"],
        "gender:in": ["urn:set:gender"], "gender:not-in": ["urn:set:gender"],
        "_text": WORDS, "_content": WORDS, "_list": ["1", "2", "3,4"],
        "organization:below": ["Organization/1", "2,Organization/3"],
        "organization:above": ["Organization/1", "2"],
        "_has:Observation:patient:_content": WORDS,
        "_filter": [
            *FILTERS, "name eq \"al ghul\" or family sw mul",
            "birthdate lt 2024-02 and active pr true", "family ew ва and birthdate pr false",
            "name ne al", "gender ne male", "given co л or not (name pr true)",
            "general-practitioner eq Practitioner/1 and _id ne 3",
            "organization.name co \"m\" or _has:Observation:patient:code eq a",
            "not (not (gender eq female)) and (birthdate ge 2023 or telecom eq 1)",
        ],
    },
    "Device": {
        "identifier": IDENTIFIERS, "type": TOKENS, "patient": PATIENTS[:3],
        "patient:missing": MISSING,
        "url": ["http://a.example/1", "urn:a", "urn"], "url:missing": MISSING,
        "patient.name": STRINGS, "_has:Observation:device:value-quantity": AMOUNTS,
        "url:below": ["http://a.example", "http://a.example/", "http://a.example/1"],
        "url:above": ["http://a.example/1/2/3", "http://a.example/", "http://a.example/12"],
        "type:in": SETS, "_content": WORDS, "_filter": [*FILTERS, "url ss http://a.example"],
    },
    "Organization": {
        "name": STRINGS, "partof": ["Organization/1", "2"], "partof:below": ["Organization/1"],
        "partof:above": ["Organization/2"], "type:not-in": SETS, "partof.partof.name": STRINGS,
    },
    "Group": {"code": TOKENS, "_has:Observation:subject:code": TOKENS, "actual": MISSING},
    "RiskAssessment": {
        "probability": ["0.1", "gt0.1", "ge0.3", "lt0.2", "ne0.1", "sa0.2", "eb0.3", "ap0.3"],
        "probability:missing": MISSING, "patient": ["1", "2"], "subject": PATIENTS[:2],
    },
}  # fmt: skip


SORTS = {
    "Observation": ["date", "_lastUpdated", "_id", "code", "value-quantity", "value-string",
                    "patient", "subject", "status", "identifier", "category", "device"],
    "Patient": ["family", "name", "birthdate", "gender", "_id", "_lastUpdated", "_profile",
                "general-practitioner", "identifier"],
    "Device": ["url", "type", "patient", "_id"],
    "RiskAssessment": ["probability", "patient"],
    "Group": ["code"],
    "Organization": ["name", "partof"],
}  # fmt: skip


RULES = {
    "Patient": "gender=female",
    "Observation": "status=final",
    "Device": "patient:missing=false",
}


def _text(resource_type: str, params: list[tuple[str, str]]) -> str:
    return f"{resource_type}?{urlencode(params)}"


@st.composite
def _any_search(draw: st.DrawFn) -> str:
    resource_type = draw(st.sampled_from(list(CRITERIA)))
    criteria = CRITERIA[resource_type]
    names = draw(st.lists(st.sampled_from(list(criteria)), max_size=3))
    params = [(name, draw(st.sampled_from(criteria[name]))) for name in names]
    keys = draw(st.lists(st.sampled_from(SORTS[resource_type]), max_size=2, unique=True))
    if keys:
        signs = [draw(st.sampled_from(["", "-"])) for _ in keys]
        params.append(("_sort", ",".join(map("".join, zip(signs, keys, strict=True)))))
    return _text(resource_type, params)


@st.composite
def _timeline_search(draw: st.DrawFn) -> str:
    """Someone's, or some device's, readings by date: what clinicians ask for."""
    criteria = CRITERIA["Observation"]
    subject = draw(
        st.sampled_from(
            ["patient", "subject", "device", "patient.identifier", "subject:Patient.name"]
        )
    )
    names = [subject, *draw(st.lists(st.sampled_from(["code", "date", "status"]), max_size=3))]
    params = [(name, draw(st.sampled_from(criteria[name]))) for name in names]
    order = draw(st.sampled_from(["date", "-date", "-date,code", None]))
    return _text("Observation", [*params, *([("_sort", order)] if order else [])])


def searches() -> st.SearchStrategy[str]:
    return st.one_of(_any_search(), _timeline_search())


class Scene:
    """A store, and what it held at some moments: by sequence, each type's resources."""

    def __init__(
        self,
        search: Callable[[Query], Page],
        query: Callable[[str], Query],
        moments: Mapping[int, Mapping[str, list[Indexed]]],
    ) -> None:
        self.search = search
        self.query = query
        self.moments = moments

    def __repr__(self) -> str:
        return "Scene"


def play(driver, indexer, seed: int) -> Scene:
    """Write, update and delete resources, and remember what there was at some moments."""
    world = World(seed)
    driver.terminology = TERMINOLOGY
    current: dict[ResourceKey, Indexed] = {}
    moments: dict[int, dict[str, list[Indexed]]] = {}
    for sequence in range(1, 241):
        resource = world.resource()
        key = ResourceKey(resource["resourceType"], resource["id"])
        if key in current and world.random.random() < 0.15:
            driver.delete(key)
            del current[key]
        else:
            driver.write(resource)
            stored = driver.read(key)
            current[key] = Indexed(indexer.index(stored.resource()), stored)
        driver.clock.advance(world.random.choice([0, 0, 0.4, 1]))
        if sequence in (60, 150, 240):
            by_type: dict[str, list[Indexed]] = {}
            for indexed in current.values():
                by_type.setdefault(indexed.version.key.resource_type, []).append(indexed)
            moments[sequence] = by_type
    return Scene(lambda query: driver.run(driver.store.search(query)), driver.query, moments)


def pages(scene: Scene, query: Query) -> tuple[list, set]:
    """All versions of all pages, and the totals they told."""
    found, totals = [], set()
    while True:
        page = scene.search(query)
        assert page.as_of == query.as_of
        assert len(page.versions) <= query.count
        found += page.versions
        totals.add(page.total)
        if page.next is None:
            return found, totals
        assert len(page.versions) == query.count
        query = query._replace(after=page.next)
