"""The table of routes, and what is said about it elsewhere."""

import pytest

from fhir_server import errors
from fhir_server.interactions import capabilities
from fhir_server.rest import error_handler, routes
from fhir_server.rest.dispatch import FhirDispatch
from fhir_server.rest.exports import export_routes
from fhir_server.rest.operation_routes import OPERATIONS, operation_routes


def every_error(base=errors.FhirError):
    for error in base.__subclasses__():
        yield error
        yield from every_error(error)


def test_every_route_is_claimed_and_every_claim_routed():
    routed = {route.interaction for route in routes.INTERACTION_ROUTES}
    claimed = {*capabilities.OF_TYPES, *capabilities.OF_SYSTEM, "capabilities"}
    # One route takes both kinds of Bundle; compartments are claimed by their definitions.
    assert routed | {"batch"} == claimed | {"search-compartment"}


def export_routes_of(operations):
    """The routes of $export at the levels of the one operation that is given."""
    (operation,) = operations
    ends = tuple(f"-{level}" for level in operation.levels)
    return [route for route in export_routes() if route.interaction.endswith(ends)]


def test_every_operation_is_routed_and_is_posted_where_it_changes_something():
    routed = {(route.interaction, route.method) for route in routes.FHIR_ROUTES}
    for operation in OPERATIONS:
        # $export is answered otherwise, and has routes of its own.
        own = operation_routes if operation.name != "export" else export_routes_of
        names = {route.interaction for route in own((operation,))}
        assert {name.rpartition("-")[2] for name in names} == set(operation.levels)
        for name in names:
            assert (name, "POST") in routed
            assert ((name, "GET") in routed) is not operation.affects_state


@pytest.mark.parametrize("error", [e for e in every_error() if e is not errors.Gone])
def test_every_error_has_a_status(error):
    assert 400 <= error_handler.status_of(error("x")) < 600
    assert error_handler.status_of(error("x")) != 500


def test_unexpected_error_tells_no_detail():
    response = error_handler.respond(ValueError("Ivanov"))
    assert response.status_code == 500
    assert b"Ivanov" not in response.body


def test_unexpected_error_is_logged_without_its_message(caplog):
    error_handler.respond(ValueError("Ivanov"))
    assert "ValueError" in caplog.text
    assert "Ivanov" not in caplog.text


@pytest.mark.parametrize("path", ["/fhirs", "/", "/health/live", "/fhirmetadata"])
def test_other_paths_are_left_to_others(path):
    dispatch = FhirDispatch("/fhir", routes.FHIR_ROUTES)
    match, _ = dispatch.matches({"type": "http", "path": path})
    assert match.name == "NONE"


def test_store_that_is_away_is_worth_a_retry():
    response = error_handler.respond(errors.StoreUnavailable("the store is busy"))
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0


def test_gone_tells_the_version_that_says_so():
    response = error_handler.respond(errors.Gone("Patient/1 was deleted", 3))
    assert response.status_code == 410
    assert response.headers["ETag"] == 'W/"3"'
