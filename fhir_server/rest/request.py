"""FhirRequest: what an endpoint is given, read from the ASGI scope no more than needed."""

import asyncio
import base64
import re
from typing import NamedTuple

from starlette.types import Receive, Scope

from fhir_server.core import etag, links, query_string, resource_json, resource_xml
from fhir_server.core.etag import EntityTags
from fhir_server.core.identity import ResourceKey
from fhir_server.core.patch.patch import Patch
from fhir_server.core.patch.patch import parse as parse_patch
from fhir_server.core.query_string import Params
from fhir_server.core.resource_json import Resource
from fhir_server.errors import InvalidSearch, NotAcceptable
from fhir_server.interactions import access
from fhir_server.interactions.context import Context
from fhir_server.rest import negotiation, preferences
from fhir_server.rest.body import read_body
from fhir_server.rest.negotiation import FHIR_JSON, FHIR_XML
from fhir_server.rest.preferences import Preferences

# Parameters of every interaction, about the answer and not about the question.
_FORMAT = "_format"
_PRETTY = "_pretty"
_GENERAL = (_FORMAT, _PRETTY)

# The one resource that is also served, and taken, as what it holds.
_BINARY = "Binary"

# What these answer is no resource, whatever the client takes.
_OWN_FORMATS = frozenset({"export-status", "export-file"})

# Reading more XML than this takes longer than other requests should wait.
_APART_FROM_BYTES = 64 * 1024
_MAY_HIDE_BASE_URL = re.compile(rb"\\[/u]")


class General(NamedTuple):
    """`_format` and `_pretty`, and the parameters without them."""

    format: str | None
    is_pretty: bool
    params: Params


class FhirRequest:
    """One request. `path` are the variable segments of its path, in order.

    `wants_content`: what a Binary holds is to be read, and not the resource.
    """

    __slots__ = (
        "_receive",
        "_scope",
        "ctx",
        "headers",
        "is_pretty",
        "media_type",
        "params",
        "path",
        "wants_content",
    )

    def __init__(
        self,
        ctx: Context,
        scope: Scope,
        receive: Receive,
        headers: dict[str, str],
        path: tuple[str, ...],
    ) -> None:
        """Raises `InvalidSearch` for a query string, `NotAcceptable` for a format."""
        self.ctx = ctx
        self.headers = headers
        self.path = path
        self._scope = scope
        self._receive = receive
        asked_format, self.is_pretty, self.params = _split_general(scope["query_string"])
        self.wants_content = False
        try:
            self.media_type = negotiation.choose_media_type(
                headers.get("accept"), asked_format, headers.get("content-type")
            )
        except NotAcceptable:
            interaction = scope["route"].interaction
            is_read = interaction in ("read", "vread") and path[0] == _BINARY
            if asked_format is not None or not (is_read or interaction in _OWN_FORMATS):
                raise
            self.wants_content, self.media_type = is_read, FHIR_JSON

    @property
    def key(self) -> ResourceKey:
        """The resource that the path names."""
        return ResourceKey(self.path[0], self.path[1])

    @property
    def method(self) -> str:
        method: str = self._scope["method"]
        return method

    @property
    def query(self) -> str:
        """The query string as it came."""
        text: bytes = self._scope["query_string"]
        return text.decode("latin-1")

    @property
    def has_body(self) -> bool:
        return "transfer-encoding" in self.headers or self.headers.get(
            "content-length", "0"
        ) not in ("", "0")

    @property
    def is_form(self) -> bool:
        return negotiation.is_form(self.headers.get("content-type"))

    @property
    def preferences(self) -> Preferences:
        return preferences.parse(self.headers.get("prefer"))

    def entity_tags(self, header: str) -> EntityTags | None:
        """`If-Match` or `If-None-Match`, where it was sent."""
        text = self.headers.get(header)
        return None if text is None else etag.parse(text)

    async def resource(self) -> Resource:
        """The body as a resource, with references to ourselves made relative.

        Raises:
            UnsupportedMediaType, TooLarge, MalformedResource: it cannot be read.
        """
        content_type = self.headers.get("content-type")
        if content_type and self.path[:1] == (_BINARY,) and not negotiation.is_fhir(content_type):
            return await self._binary(content_type)
        media_type = negotiation.body_media_type(self.headers.get("content-type"))
        body = await read_body(self._receive, self.headers, self.ctx.limits.body_bytes)
        if media_type == FHIR_XML:
            return await self._xml_resource(body)
        resource = resource_json.parse_incoming_resource(body)
        # Most bodies do not mention us: a look at the bytes spares the walk.
        if self.ctx.base_url.encode() in body or _MAY_HIDE_BASE_URL.search(body):
            return links.localize(resource, self.ctx.base_url)
        return resource

    async def patch(self) -> Patch:
        """The body as a patch.

        Raises:
            UnsupportedMediaType, TooLarge, InvalidRequest: it cannot be read.
        """
        media_type = negotiation.patch_media_type(self.headers.get("content-type"))
        body = await read_body(self._receive, self.headers, self.ctx.limits.body_bytes)
        return parse_patch(media_type, body, self.ctx.element_types)

    async def _binary(self, content_type: str) -> Resource:
        """The body as what a Binary holds."""
        # The resource has to be within the limit, and base64 makes four bytes of three.
        limit = self.ctx.limits.body_bytes * 3 // 4
        body = await read_body(self._receive, self.headers, limit)
        binary: Resource = {"resourceType": _BINARY, "contentType": content_type}
        if len(self.path) > 1:
            binary["id"] = self.path[1]
        if context := self.headers.get("x-security-context"):
            binary["securityContext"] = {"reference": context}
        if body:
            binary["data"] = base64.b64encode(body).decode("ascii")
        return links.localize(binary, self.ctx.base_url) if context else binary

    async def _xml_resource(self, body: bytes) -> Resource:
        types = self.ctx.element_types
        if len(body) < _APART_FROM_BYTES:
            resource = resource_xml.parse(body, types)
        else:
            resource = await asyncio.to_thread(resource_xml.parse, body, types)
        return links.localize(resource, self.ctx.base_url)

    async def form(self) -> Params:
        """The body of a posted search, behind the query string's parameters."""
        body = await read_body(self._receive, self.headers, self.ctx.limits.body_bytes)
        if not body:
            return self.params
        if not negotiation.is_form(self.headers.get("content-type")):
            raise InvalidSearch("a search is posted as application/x-www-form-urlencoded")
        try:
            text = body.decode("ascii")
        except UnicodeDecodeError:
            raise InvalidSearch("the form is not percent-encoded") from None
        posted = query_string.parse(text)
        if (request := access.current()) is not None:
            request.posted(posted)
        asked = dict(posted)
        if _FORMAT in asked:
            self.media_type = negotiation.choose_media_type(None, asked[_FORMAT])
        self.is_pretty = self.is_pretty or asked.get(_PRETTY) == "true"
        return self.params + _without_general(posted)


def decode_headers(scope: Scope) -> dict[str, str]:
    """Headers by lower-case name; those sent twice are one list."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _split_general(query: bytes) -> General:
    if not query:
        return General(None, False, ())
    # The server hands on any byte; those that are not ASCII would need percent signs.
    params = query_string.parse(query.decode("latin-1"))
    for name, _ in params:
        if name in _GENERAL:
            break
    else:
        return General(None, False, params)
    asked = dict(params)
    return General(asked.get(_FORMAT), asked.get(_PRETTY) == "true", _without_general(params))


def _without_general(params: Params) -> Params:
    return tuple((name, value) for name, value in params if name not in _GENERAL)
