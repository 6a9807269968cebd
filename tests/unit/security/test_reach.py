"""Reach: what scopes and circles come to as criteria."""

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.index import Indexer
from fhir_server.core.search.parse import parse_criteria
from fhir_server.core.search.query import Query
from fhir_server.core.security import scope, subscriber
from fhir_server.core.security.circle import Circle
from fhir_server.core.security.principal import Principal
from fhir_server.core.security.reach import Reach
from fhir_server.core.security.restriction import DIRECTORY, NOTHING, Knowledge
from fhir_server.core.version import Version, next_version
from fhir_server.definitions import load
from tests.contract.access import NOW

ANNA = Circle(frozenset({"anna"}), is_own=True)


@pytest.fixture(scope="module")
def definitions():
    return load()


@pytest.fixture(scope="module")
def make(definitions):
    def read(resource_type, params):
        return parse_criteria(
            resource_type,
            params,
            definitions.parameters,
            base_url="",
            time_zone="Europe/Moscow",
            now=NOW,
        )

    knowledge = Knowledge(definitions.parameters, definitions.compartments)

    def reach(scopes, **circles):
        principal = Principal("user", "app", scopes=scope.parse_all(scopes))
        return Reach(principal, circles, knowledge, read)

    return reach


@pytest.fixture(scope="module")
def shows(definitions):
    indexer = Indexer(definitions.parameters, definitions.element_types, "Europe/Moscow")

    def ask(reach, resource, act="r") -> bool:
        key = ResourceKey(resource["resourceType"], "x")
        version: Version = next_version(None, key, resource, NOW)[0]
        return reach.shows(act, version, indexer(version.resource()))

    return ask


def observation(patient="anna", **more):
    subject = {"reference": f"Patient/{patient}"}
    return {"resourceType": "Observation", "status": "final", "subject": subject, **more}


def test_no_scope_is_no_reach(make, definitions):
    reach = make("", patient=ANNA)
    for resource_type in definitions.parameters.resource_types:
        assert reach.criteria("r", resource_type) == (NOTHING,)
        assert not reach.grants("r", resource_type)


def test_a_scope_without_its_circle_reaches_nobody(make, shows):
    assert not shows(make("user/*.rs", patient=ANNA), observation())


@pytest.mark.parametrize(
    "text",
    [
        "patient/Observation.r?subject.name=x",
        "patient/Observation.r?_has:Provenance:target:agent=x",
        "patient/Observation.r?nonsense=x",
        "patient/Observation.r?status:nonsense=x",
        "patient/Observation.r?code:in=urn:unknown",
    ],
)
def test_a_limit_that_cannot_be_understood_grants_nothing(make, shows, text):
    assert not shows(make(text, patient=ANNA), observation())


def test_scopes_add_up_and_their_limits_do_not_mix(make, shows):
    reach = make(
        "patient/Observation.r?status=final patient/Observation.r?category=urn:c|lab", patient=ANNA
    )
    lab = [{"coding": [{"system": "urn:c", "code": "lab"}]}]
    assert shows(reach, observation())
    assert shows(reach, observation(status="amended", category=lab))
    assert not shows(reach, observation(status="amended"))
    assert not shows(reach, observation("boris", category=lab))


def test_each_letter_is_its_own(make, shows):
    reach = make("patient/Observation.rs patient/Observation.u?status=preliminary", patient=ANNA)
    assert shows(reach, observation(), "r")
    assert not shows(reach, observation(), "u")
    assert not shows(reach, observation(), "c")
    assert shows(reach, observation(), "any")


def test_types_that_are_about_nobody_are_listed_and_the_others_closed(make, definitions):
    reach = make("patient/*.cruds", patient=ANNA)
    knowledge = Knowledge(definitions.parameters, definitions.compartments)
    for resource_type in definitions.parameters.resource_types:
        is_listed = resource_type in DIRECTORY
        assert reach.is_open("s", resource_type) is is_listed
        assert not reach.is_open("u", resource_type)
        if is_listed:
            # Nothing in it may name a patient.
            assert not knowledge.owners(resource_type)


def test_only_everything_without_any_limit_is_everything(make):
    everyone = Circle(None)
    assert make("system/*.cruds", system=everyone).sees_everything
    for text, circle in (
        ("system/*.rs", everyone),
        ("system/Observation.cruds", everyone),
        ("system/*.cruds?_id=x", everyone),
        ("system/*.cruds", Circle(None, default=False)),
        ("system/*.cruds", ANNA),
        ("user/*.cruds", everyone),
    ):
        assert not make(text, system=circle).sees_everything


def test_a_query_obeys_for_every_type_that_it_leads_to(make, definitions):
    reach = make("patient/*.rs", patient=ANNA)

    def query(resource_type, *params):
        return Query(resource_type, reach._read(resource_type, params))

    for asked, types in (
        (query("Observation", ("code", "x")), {"Observation"}),
        (query("Observation", ("subject:Patient.name", "x")), {"Observation", "Patient"}),
        (
            query("Patient", ("_has:Observation:patient:performer:Patient.name", "x")),
            {"Patient", "Observation"},
        ),
        (query("Patient", ("_has:List:patient:item:Observation.code", "x")),
         {"Patient", "List", "Observation"}),
    ):  # fmt: skip
        assert {name for name, _ in reach.restriction("s", asked).by_type} == types


def test_a_subscription_says_whose_it_is_and_is_read_back():
    asking = Principal(
        "user",
        "app",
        "dr",
        scope.parse_all("user/Observation.rs?code=a,b%20c patient/*.r"),
        patient=ResourceKey("Patient", "1"),
        fhir_user=ResourceKey("Practitioner", "2"),
        purposes=("TREAT",),
        roles=frozenset({"operator"}),
    )
    resource = {"resourceType": "Subscription", "meta": {"tag": [{"system": "urn:t", "code": "x"}]}}
    subscriber.mark(resource, asking)
    assert subscriber.read(resource) == asking
    assert subscriber.is_of(resource, asking)
    assert {"system": "urn:t", "code": "x"} in resource["meta"]["tag"]
    other = Principal("user", "app", "dx")
    assert not subscriber.is_of(resource, other)
    # Once more changes nothing.
    again = {**resource}
    subscriber.mark(again, asking)
    assert again == resource


@pytest.mark.parametrize("said", ["", "{}", "[1]", "null", '{"kind":"system"}', None, 5])
def test_who_cannot_be_read_may_see_nothing(said):
    extension = {"url": subscriber.EXTENSION, "valueString": said}
    found = subscriber.read({"resourceType": "Subscription", "extension": [extension]})
    assert found is not None
    assert not found.scopes
