"""What the terminology operations share: which definition is meant, and who else may know.

A definition is named by its URL, by the resource that is called on, or comes along with the
call. What is not known here is asked of another server, where one is set.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import NamedTuple

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.operation_input import Inputs, fault
from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology.terminology import Terminology, Unknown
from fhir_server.core.terminology.value_set import NotTold
from fhir_server.errors import InvalidResource, Issue, NotFound
from fhir_server.interactions.context import Context
from fhir_server.interactions.operation import Invocation
from fhir_server.interactions.read import read
from fhir_server.interactions.terminology import with_terminology_aside

_GIVEN = "#given"
_MOST_DIGITS = 9

Answer = Callable[[Terminology], Resource | None]


class Meant(NamedTuple):
    """The definition that a call is about; `given` is one that came along."""

    resource_type: str
    url: str
    given: Resource | None = None

    def within(self, terminology: Terminology) -> Terminology:
        """`terminology` with what came along."""
        return terminology.knowing(self.given, self.url) if self.given else terminology


async def meant(
    ctx: Context, call: Invocation, resource_type: str, given: str, *versions: str
) -> Meant | None:
    """The definition that `call` names, if it names one.

    `given` is the input that may bring it along, `versions` are inputs that pin its version.

    Raises:
        NotFound, Gone: the resource that it is called on is not there.
        InvalidRequest: what it brings along is something else.
    """
    if call.resource_id is not None:
        key = ResourceKey(resource_type, call.resource_id)
        await read(ctx, key)
        return Meant(resource_type, f"{resource_type}/{call.resource_id}")
    for resource in call.inputs.objects(given):
        if resource.get("resourceType") != resource_type:
            raise fault(f"must be a {resource_type}", given)
        return Meant(resource_type, resource.get("url") or _GIVEN, resource)
    url = call.inputs.text("url")
    if url is None:
        return None
    version = next((v for name in versions if (v := call.inputs.text(name))), None)
    return Meant(resource_type, f"{url}|{version}" if version and "|" not in url else url)


async def answer(ctx: Context, call: Invocation, name: str, ask: Answer) -> bytes:
    """What `ask` makes of the terminology, as JSON; it answers None for what it cannot tell.

    Raises:
        NotFound: a definition is not known, here or there.
        InvalidResource: a code system is needed that is not all known.
        TerminologyUnavailable: another server would have to be asked, and is away.
    """
    try:
        found = await with_terminology_aside(ctx, lambda ctx: ask(ctx.terminology))
        unknown: Unknown | NotTold | None = None
    except (Unknown, NotTold) as error:
        found, unknown = None, error
    if found is None and ctx.remote_terminology is not None and call.resource_id is None:
        invoke = ctx.remote_terminology.invoke
        path = f"{call.resource_type}/${name}" if call.resource_type else f"${name}"
        found = await asyncio.to_thread(invoke, path, call.inputs)
    if found is not None:
        return resource_json.format(found)
    if isinstance(unknown, NotTold):
        raise InvalidResource(issues=(Issue("not-found", str(unknown)),))
    raise NotFound(str(unknown) if unknown else "this is not known here")


def read_number(inputs: Inputs, name: str) -> int | None:
    """A whole number from 0, if it was given.

    Raises:
        InvalidRequest: it is something else.
    """
    text = inputs.text(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise fault("a whole number, 0 or more", name, code="value")
    return int(text)


def read_flag(inputs: Inputs, name: str, *, default: bool = False) -> bool:
    """A boolean.

    Raises:
        InvalidRequest: it is something else.
    """
    text = inputs.text(name)
    if text not in (None, "true", "false"):
        raise fault("true or false", name, code="value")
    return default if text is None else text == "true"


def required(meant: Meant | None, names: str) -> Meant:
    """Raises `InvalidRequest` where no definition is named."""
    if meant is None:
        raise fault(f"give one of {names}", "url", code="required")
    return meant


def pinned(inputs: Inputs, name: str) -> Mapping[str, str]:
    """Versions of code systems by their URLs, of inputs such as ``url|version``.

    Raises:
        InvalidRequest: one has no version.
    """
    found: dict[str, str] = {}
    for text in inputs.texts(name):
        url, bar, version = text.rpartition("|")
        if not (bar and url and version):
            raise fault("expected url|version", name, code="value")
        found[url] = version
    return found
