"""capabilities: what this server can do.

https://hl7.org/fhir/R4/http.html#capabilities
"""

from datetime import datetime
from functools import lru_cache

from fhir_server import __version__
from fhir_server.core import resource_json
from fhir_server.core.capability import capability_statement
from fhir_server.core.compartment import Compartments
from fhir_server.core.patch.patch import FHIR_JSON, FHIR_XML, PATCH_TYPES
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.security.smart_configuration import (
    Endpoints,
    security,
    smart_configuration,
)
from fhir_server.core.terminology_capability import terminology_capabilities
from fhir_server.core.websocket_binding import websocket_url
from fhir_server.errors import NotFound
from fhir_server.interactions.context import Context
from fhir_server.interactions.operation import Operations

OF_TYPES = (
    "read",
    "vread",
    "update",
    "patch",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
)
OF_SYSTEM = ("transaction", "batch", "search-system", "history-system")
BULK_DATA = "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"
FORMATS = (FHIR_JSON, FHIR_XML, "json", "xml")


def capabilities(ctx: Context) -> bytes:
    """The CapabilityStatement, dated today."""
    today = ctx.now().replace(hour=0, minute=0, second=0, microsecond=0)
    return _format(
        ctx.validator.resource_types,
        ctx.parameters,
        ctx.operations,
        ctx.compartments,
        ctx.base_url,
        today,
        "single" if ctx.limits.deletions == 1 else "multiple",
        tuple(ctx.subscriptions.topics) if ctx.subscriptions else (),
        ctx.thorough.supported_profiles if ctx.thorough else (),
        ctx.endpoints(ctx.base_url) if ctx.endpoints else None,
        frozenset({"AuditEvent"}) if ctx.is_audited else frozenset(),
    )


def where_tokens_are_had(ctx: Context) -> bytes:
    """SMART's configuration document.

    Raises:
        NotFound: nobody is asked for tokens.
    """
    endpoints = ctx.endpoints(ctx.base_url) if ctx.endpoints else None
    if endpoints is None:
        raise NotFound("nobody is asked for tokens here")
    return resource_json.format(smart_configuration(endpoints))


def terminology(ctx: Context) -> bytes:
    """The TerminologyCapabilities, dated today: what is known before anything is stored."""
    today = ctx.now().replace(hour=0, minute=0, second=0, microsecond=0)
    found = ctx.terminology.versions("CodeSystem")
    return resource_json.format(terminology_capabilities(found, today, __version__))


# Some hundred kilobytes that change once a day; clients ask for it on every start.
@lru_cache(maxsize=16)
def _format(
    resource_types: frozenset[str],
    parameters: SearchParameters,
    operations: Operations,
    compartments: Compartments,
    base_url: str,
    today: datetime,
    conditional_delete: str,
    topics: tuple[str, ...],
    profiles: tuple[tuple[str, str], ...],
    endpoints: Endpoints | None,
    read_only: frozenset[str],
) -> bytes:
    return resource_json.format(
        capability_statement(
            resource_types,
            parameters,
            OF_TYPES,
            OF_SYSTEM,
            [(each.name, each.definition) for each in operations.all if "system" in each.levels],
            base_url,
            today,
            __version__,
            formats=FORMATS,
            patch_formats=PATCH_TYPES,
            is_update_conditional=True,
            conditional_delete=conditional_delete,
            operations_of_types={
                name: [
                    (each.name, each.definition)
                    for each in operations.all
                    if each.is_at("type", name) or each.is_at("instance", name)
                ]
                for name in resource_types
            },
            compartments=compartments.types,
            topics=topics,
            profiles=profiles,
            read_only=read_only,
            websocket_url=websocket_url(base_url) if base_url else "",
            security=security(endpoints) if endpoints else None,
            instantiates=(BULK_DATA,),
        )
    )
