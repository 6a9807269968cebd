"""Bundles as requests: the entries of a batch or transaction, each understood or refused.

https://hl7.org/fhir/R4/http.html#transaction
"""

from typing import Any, Literal, NamedTuple

from fhir_server.core import etag, query_string
from fhir_server.core.etag import EntityTags
from fhir_server.core.query_string import Params
from fhir_server.core.resource_json import Resource
from fhir_server.errors import FhirError, InvalidRequest, Issue, MalformedResource

BundleType = Literal["batch", "transaction"]

METHODS = ("DELETE", "POST", "PUT", "PATCH", "GET", "HEAD")
"""The codes of R4's http-verb, in the order in which a server works them off."""

_WITH_BODY = ("POST", "PUT", "PATCH")
_CONDITIONS = ("ifMatch", "ifNoneMatch", "ifNoneExist", "ifModifiedSince")


class RequestEntry(NamedTuple):
    """One thing to be done. `path` has no empty segment; a condition not given is None."""

    position: int
    method: str
    path: tuple[str, ...]
    params: Params
    full_url: str | None
    resource: Resource | None
    if_match: str | None = None
    if_none_match: str | None = None
    if_none_exist: str | None = None
    if_modified_since: str | None = None

    @property
    def expression(self) -> str:
        return expression(self.position)


class RefusedEntry(NamedTuple):
    """An entry that cannot be understood."""

    position: int
    error: FhirError


def expression(index: int) -> str:
    """The FHIRPath of an entry."""
    return f"Bundle.entry[{index}]"


def parse_type(bundle: Resource) -> BundleType:
    """What kind of request `bundle` is.

    Raises:
        InvalidRequest: it is none.
    """
    if bundle.get("resourceType") != "Bundle":
        raise MalformedResource("the body of a batch or transaction is a Bundle")
    kind = bundle.get("type")
    if kind not in ("batch", "transaction"):
        issue = Issue("value", "only batch and transaction can be carried out", "Bundle.type")
        raise InvalidRequest(issues=(issue,))
    return "batch" if kind == "batch" else "transaction"


def parse_entries(
    bundle: Resource, base_url: str, limit: int
) -> tuple[RequestEntry | RefusedEntry, ...]:
    """Every entry, in order.

    Raises:
        InvalidRequest: `entry` is no list, or has more than `limit` members.
    """
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        raise InvalidRequest(issues=(Issue("structure", "must be a list", "Bundle.entry"),))
    if len(entries) > limit:
        issue = Issue("too-costly", f"at most {limit} entries are taken", "Bundle.entry")
        raise InvalidRequest(issues=(issue,))
    return tuple(_parse_entry(i, entry, base_url) for i, entry in enumerate(entries))


def entity_tags(header: str | None) -> EntityTags | None:
    """`ifMatch` or `ifNoneMatch`, where the entry has it.

    Raises:
        InvalidRequest: it is no list of entity tags.
    """
    return None if header is None else etag.parse(header)


def required_resource(entry: RequestEntry) -> Resource:
    """The resource that is to be stored.

    Raises:
        InvalidRequest: the entry has none.
    """
    if entry.resource is None:
        raise _fault("is missing", f"{entry.expression}.resource", code="required")
    return entry.resource


def _parse_entry(index: int, entry: object, base_url: str) -> RequestEntry | RefusedEntry:
    try:
        return _understand(index, entry, base_url)
    except FhirError as error:
        return RefusedEntry(index, error)


def _understand(index: int, entry: object, base_url: str) -> RequestEntry:
    at = expression(index)
    if not isinstance(entry, dict):
        raise _fault("must be an object", at)
    request = entry.get("request")
    if not isinstance(request, dict):
        raise _fault("says what is to be done", f"{at}.request", code="required")
    method = _text(request, "method", f"{at}.request", required=True)
    if method not in METHODS:
        raise _fault(f"is one of {', '.join(METHODS)}", f"{at}.request.method", code="value")
    url = _text(request, "url", f"{at}.request", required=True)
    path, params = _parse_url(url or "", base_url, f"{at}.request.url")
    conditions = [_text(request, name, f"{at}.request") for name in _CONDITIONS]
    return RequestEntry(
        index,
        method,
        path,
        params,
        _text(entry, "fullUrl", at),
        _resource(entry, at) if method in _WITH_BODY else None,
        *conditions,
    )


def _resource(entry: dict[str, Any], at: str) -> Resource | None:
    resource = entry.get("resource")
    if "resource" not in entry:
        return None
    if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
        raise _fault("must be a resource", f"{at}.resource")
    return resource


def _text(holder: dict[str, Any], name: str, at: str, *, required: bool = False) -> str | None:
    value = holder.get(name)
    if value is None and name not in holder:
        if required:
            raise _fault("is missing", f"{at}.{name}", code="required")
        return None
    if not isinstance(value, str) or not value:
        raise _fault("must be a text", f"{at}.{name}")
    return value


def _parse_url(url: str, base_url: str, at: str) -> tuple[tuple[str, ...], Params]:
    if base_url and url.startswith(base_url + "/"):
        url = url[len(base_url) :]
    elif "://" in url.partition("?")[0]:
        raise _fault("is not on this server", at, code="value")
    path, _, query = url.partition("?")
    try:
        params = query_string.parse(query)
    except FhirError as error:
        raise _fault(str(error), at, code="value") from None
    return tuple(segment for segment in path.split("/") if segment), params


def _fault(diagnostics: str, at: str, *, code: str = "structure") -> InvalidRequest:
    return InvalidRequest(issues=(Issue(code, diagnostics, at),))
