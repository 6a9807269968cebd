"""The table of FHIR's routes; what the server claims to do is read from it.

https://hl7.org/fhir/R4/http.html
"""

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from fhir_server.errors import FhirError
from fhir_server.rest import (
    compartment_level,
    error_handler,
    instance_level,
    system_level,
    type_level,
)
from fhir_server.rest.dispatch import FhirDispatch, FhirRoute
from fhir_server.rest.exports import export_routes
from fhir_server.rest.operation_routes import OPERATIONS, operation_routes

INTERACTION_ROUTES = (
    FhirRoute("GET", "/metadata", system_level.capabilities, "capabilities"),
    FhirRoute("POST", "/", system_level.batch_or_transaction, "transaction"),
    FhirRoute("GET", "/", system_level.search, "search-system"),
    FhirRoute("POST", "/_search", system_level.search_by_post, "search-system"),
    FhirRoute("GET", "/_history", system_level.history, "history-system"),
    FhirRoute("POST", "/{type}", type_level.create, "create"),
    FhirRoute("PUT", "/{type}", type_level.conditional_update, "update"),
    FhirRoute("PATCH", "/{type}", type_level.conditional_patch, "patch"),
    FhirRoute("DELETE", "/{type}", type_level.conditional_delete, "delete"),
    FhirRoute("GET", "/{type}", type_level.search, "search-type"),
    FhirRoute("POST", "/{type}/_search", type_level.search_by_post, "search-type"),
    FhirRoute("GET", "/{type}/_history", type_level.history, "history-type"),
    FhirRoute("GET", "/{type}/{id}", instance_level.read, "read"),
    FhirRoute("PUT", "/{type}/{id}", instance_level.update, "update"),
    FhirRoute("PATCH", "/{type}/{id}", instance_level.patch, "patch"),
    FhirRoute("DELETE", "/{type}/{id}", instance_level.delete, "delete"),
    FhirRoute("GET", "/{type}/{id}/_history", instance_level.history, "history-instance"),
    FhirRoute("GET", "/{type}/{id}/_history/{vid}", instance_level.vread, "vread"),
    FhirRoute("GET", "/{type}/{id}/{member}", compartment_level.search, "search-compartment"),
    FhirRoute(
        "POST",
        "/{type}/{id}/{member}/_search",
        compartment_level.search_by_post,
        "search-compartment",
    ),
)
# Not FHIR's own: https://hl7.org/fhir/smart-app-launch/conformance.html
SMART_ROUTES = (
    FhirRoute(
        "GET",
        "/.well-known/smart-configuration",
        system_level.smart_configuration,
        "smart-configuration",
    ),
)
FHIR_ROUTES = (*INTERACTION_ROUTES, *SMART_ROUTES, *operation_routes(OPERATIONS), *export_routes())


def install(app: FastAPI, prefix: str = "/fhir") -> FhirDispatch:
    """Serve FHIR below `prefix`, and answer in OperationOutcomes wherever FHIR fails.

    The route needs `app.state.context`, and reads `app.state.settings` too.
    """
    dispatch = FhirDispatch(prefix, FHIR_ROUTES)
    app.router.routes.insert(0, dispatch)
    app.add_exception_handler(FhirError, error_handler.handle)
    app.add_exception_handler(HTTPException, error_handler.handle_unrouted)
    return dispatch
