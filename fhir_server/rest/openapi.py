"""The API described: /openapi.json (OpenAPI 3.1) and the page /docs made from it.

`openapi.yaml` holds what is said in words; the paths below /fhir come from the route table,
so what is routed and what is described cannot drift apart.
https://spec.openapis.org/oas/v3.1.0
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any, NamedTuple
from urllib.parse import urljoin

import msgspec
from ruamel.yaml import YAML
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fhir_server import __version__
from fhir_server.core.patch.patch import FHIR_JSON, FHIR_XML, JSON_PATCH, MERGE_PATCH
from fhir_server.rest import docs_page
from fhir_server.rest.dispatch import FhirRoute
from fhir_server.rest.exports import NDJSON

_VARIABLE = re.compile(r"\{(\w+)\}")
_R4 = "https://hl7.org/fhir/R4/"
_TEMPLATES = "x-fhir-interactions"
_XML: dict[str, Any] = {"schema": {"type": "string", "description": "The same as FHIR's XML."}}
_PATCHES: dict[str, Any] = {
    JSON_PATCH: {"schema": {"type": "array", "items": {"type": "object"}}},
    MERGE_PATCH: {"schema": {"type": "object"}},
    FHIR_JSON: {"schema": {"type": "object", "description": "Parameters: a FHIRPath Patch."}},
    FHIR_XML: _XML,
}
_WRITTEN = {
    "200": "The version that is current now.",
    "201": "The version that was made.",
    "204": "Done; there is nothing to say.",
}
_STATUS = {
    "BadRequest": "400",
    "Forbidden": "403",
    "NotFound": "404",
    "NotAcceptable": "406",
    "Conflict": "409",
    "Gone": "410",
    "PreconditionFailed": "412",
    "TooLarge": "413",
    "UnsupportedMediaType": "415",
    "Invalid": "422",
    "TooCostly": "422",
    "Unavailable": "503",
}
# What the edge may say before any route has a word.
_OF_ALL = {"TooSlow": "408", "Throttled": "429", "HeadTooLarge": "431", "Unavailable": "503"}
_OF_SECURED = {"Unauthenticated": "401", "Forbidden": "403"}


def openapi_routes(table: Sequence[FhirRoute], prefix: str = "/fhir") -> list[BaseRoute]:
    """/openapi.json and /docs; made when they are first asked for."""
    description = _Description(tuple(table), prefix)
    return [
        Route("/openapi.json", description.send_json),
        Route("/docs", description.send_page),
    ]


def describe(table: Sequence[FhirRoute], prefix: str = "/fhir") -> dict[str, Any]:
    """The whole document."""
    text = files(__package__).joinpath("openapi.yaml").read_text("utf-8")
    document: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    document["info"]["version"] = __version__
    templates = document.pop(_TEMPLATES)
    fhir: dict[str, dict[str, Any]] = {}
    for route in table:
        path = prefix + (route.path if route.path != "/" else "")
        item = fhir.setdefault(path, {})
        variables = _VARIABLE.findall(path)
        if variables:
            item["parameters"] = [_reference("parameters", name) for name in variables]
        name = name_of(route)
        item[route.method.lower()] = _operation(name, templates.get(name, {"summary": name}))
    document["paths"] = fhir | document["paths"]
    for item in document["paths"].values():
        for method, operation in item.items():
            if method != "parameters":
                is_open = operation.get("security") == []
                for name, status in (_OF_ALL if is_open else _OF_ALL | _OF_SECURED).items():
                    operation["responses"].setdefault(status, _reference("responses", name))
    return document


def name_of(route: FhirRoute) -> str:
    """What tells this route from any other: its interaction, said more closely where needed."""
    is_operation = "$" in route.path
    if route.path.endswith("/_search") or (is_operation and route.method == "POST"):
        return f"{route.interaction}-by-post"
    if route.method in ("PUT", "PATCH", "DELETE") and "{id}" not in route.path:
        return f"conditional-{route.interaction}"
    return route.interaction


def _operation(name: str, template: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": ["FHIR"],
        "summary": template["summary"],
    }
    if "description" in template:
        operation["description"] = template["description"]
    page = template.get("docs", f"http.html#{_anchor(name)}")
    operation["externalDocs"] = {"url": urljoin(_R4, page)}
    operation["parameters"] = [
        _reference("parameters", parameter) for parameter in template.get("parameters", ())
    ]
    if "body" in template:
        operation["requestBody"] = {"required": True, "content": _content(template["body"])}
    elif template.get("form"):
        form = {"type": "object", "additionalProperties": {"type": "string"}}
        content = {"application/x-www-form-urlencoded": {"schema": form}}
        operation["requestBody"] = {"content": content}
    operation["responses"] = _responses(template)
    return operation


def _responses(template: Mapping[str, Any]) -> dict[str, Any]:
    etag = {"ETag": _reference("headers", "ETag")}
    responses: dict[str, Any] = {}
    for status in template.get("writes", ()):
        responses[status] = {"description": _WRITTEN[status], "headers": dict(etag)}
        if status == "201":
            responses[status]["headers"]["Location"] = _reference("headers", "Location")
        if status != "204":
            responses[status]["content"] = _content("Resource")
    if "returns" in template:
        returned = template["returns"]
        responses["200"] = {"description": f"The {returned}.", "content": _content(returned)}
    if "accepted" in template:
        responses["202"] = {"description": template["accepted"]}
    if template.get("manifest"):
        content = {"application/json": {"schema": _reference("schemas", "Manifest")}}
        responses["200"] = {"description": "The manifest.", "content": content}
    if template.get("lines"):
        content = {NDJSON: {"schema": {"type": "string"}}}
        responses["200"] = {"description": "The file.", "content": content}
        responses["206"] = {"description": "The part that was asked for.", "content": content}
    if template.get("cached"):
        responses["200"]["headers"] = {
            **etag,
            "Last-Modified": _reference("headers", "LastModified"),
        }
        responses["304"] = {"description": "What the client has is current."}
    for error in template.get("errors", ()):
        responses[_STATUS[error]] = _reference("responses", error)
    responses["default"] = {
        "description": "An OperationOutcome that says what is wrong.",
        "content": _content("OperationOutcome"),
    }
    return responses


def _content(schema: str) -> dict[str, Any]:
    if schema == "Patch":
        return _PATCHES
    return {FHIR_JSON: {"schema": _reference("schemas", schema)}, FHIR_XML: _XML}


def _reference(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


def _anchor(name: str) -> str:
    return name.removeprefix("conditional-").partition("-")[0]


class _Texts(NamedTuple):
    json: bytes
    page: bytes


@lru_cache(maxsize=4)
def _texts(table: tuple[FhirRoute, ...], prefix: str) -> _Texts:
    document = describe(table, prefix)
    return _Texts(msgspec.json.encode(document), docs_page.render(document).encode())


class _Description:
    """The endpoints of one application."""

    def __init__(self, table: tuple[FhirRoute, ...], prefix: str) -> None:
        self._table = table
        self._prefix = prefix

    async def send_json(self, _request: Request) -> Response:
        return Response((await self._made()).json, media_type="application/json")

    async def send_page(self, _request: Request) -> Response:
        headers = {
            "Content-Security-Policy": docs_page.POLICY,
        }
        return Response((await self._made()).page, media_type="text/html", headers=headers)

    async def _made(self) -> _Texts:
        return await asyncio.to_thread(_texts, self._table, self._prefix)
