"""Who asked for what lasts has no more than they are registered for, in every process."""

import time
from dataclasses import replace

import pytest

from fhir_server.app import now
from fhir_server.core.identity import ResourceKey
from fhir_server.core.security import scope
from fhir_server.core.security.principal import Principal
from fhir_server.core.security.registration import Account, Client
from fhir_server.security.presence import Presence
from fhir_server.security.registrations import Registrations
from fhir_server.security.revisions import FAR_SECONDS
from fhir_server.store.security.open import open_security_store

PROGRAM = Principal("system", "app", "app", scope.parse_all("system/*.rs system/Patient.cu"))
PERSON = Principal(
    "user",
    "app",
    "doctor",
    scope.parse_all("user/*.rs"),
    fhir_user=ResourceKey("Practitioner", "1"),
    roles=frozenset(("operator",)),
)


@pytest.fixture
def url(store_kind, new_url, tmp_path):
    return f"sqlite:///{tmp_path}/fhir.db" if store_kind == "sqlite" else new_url("mongo")


@pytest.fixture
def registrations(url):
    """As another process has them open."""
    store = open_security_store("", url, now)
    registrations = Registrations(store, now)
    registrations.add(Client(client_id="app", scopes="system/*.cruds user/*.rs"))
    registrations.add(
        Account(
            name="doctor",
            password="",
            fhir_user="Practitioner/1",
            scopes="user/*.rs",
            roles=("operator",),
        )
    )
    yield registrations
    store.close()


@pytest.fixture
def presence(url, registrations):
    presence = Presence(lambda: open_security_store("", url, now), now)
    assert presence.of(PROGRAM) == PROGRAM
    assert presence.of(PERSON) == PERSON
    yield presence
    presence.close()


def after_a_moment():
    # As long as an answer of a database on another machine is good.
    time.sleep(FAR_SECONDS + 0.01)


def test_who_is_revoked_is_not_here(presence, registrations):
    registrations.revoke(Account, "doctor")
    after_a_moment()
    assert presence.of(PERSON) is None
    assert presence.of(PROGRAM) == PROGRAM
    registrations.revoke(Client, "app")
    after_a_moment()
    assert presence.of(PROGRAM) is None


def test_scopes_and_roles_are_those_of_now(presence, registrations):
    registrations.change(
        Client, "app", lambda found: replace(found, scopes="system/Observation.rs user/*.rs")
    )
    registrations.change(Account, "doctor", lambda found: replace(found, roles=()))
    after_a_moment()
    assert presence.of(PROGRAM).scopes == scope.parse_all("system/Observation.rs")
    assert presence.of(PERSON).roles == frozenset()


def test_an_account_that_became_another_persons_is_not_theirs(presence, registrations):
    registrations.change(
        Account, "doctor", lambda found: replace(found, fhir_user="Practitioner/2")
    )
    after_a_moment()
    assert presence.of(PERSON) is None
