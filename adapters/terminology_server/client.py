"""Asks another FHIR terminology server, and remembers its answers for a while.

Only codes and canonical URLs are sent. https://hl7.org/fhir/R4/terminology-service.html
"""

import json
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

import requests

from fhir_server.core import resource_json
from fhir_server.core.operation_input import Inputs
from fhir_server.core.resource_json import Resource
from fhir_server.errors import InvalidRequest, MalformedResource, TerminologyUnavailable

_FHIR_JSON = "application/fhir+json"
_TIMEOUT = (3.05, 20.0)
_MOST_KEPT = 5_000
_MOST_BYTES = 32 * 1024 * 1024
_MOST_CODES = "10000"
_UNKNOWN = (404, 410, 422)

Key = tuple[str, str]


class TerminologyClient:
    """One a process; safe from any thread. `clock` counts seconds and never goes back."""

    def __init__(self, base_url: str, keep_seconds: float, clock: Callable[[], float]) -> None:
        self._base_url = base_url.rstrip("/")
        self._keep_seconds = keep_seconds
        self._clock = clock
        self._kept: OrderedDict[Key, tuple[float, Resource | None]] = OrderedDict()
        self._lock = Lock()

    def expansion(self, url: str) -> Resource | None:
        """The value set at `url`, expanded; None: that server has none.

        Raises:
            TerminologyUnavailable: it does not answer, or what it answers is no use.
        """
        bare, _, version = url.partition("|")
        params = {"url": bare, "count": _MOST_CODES}
        if version:
            params["valueSetVersion"] = version
        found = self._remembered("ValueSet/$expand", params, None)
        # Not its compose: that may need code systems which only that server has.
        return {k: v for k, v in found.items() if k != "compose"} if found else None

    def invoke(self, path: str, inputs: Inputs) -> Resource | None:
        """What the operation at `path` answers; None: it does not know what is asked about.

        Raises:
            TerminologyUnavailable: it does not answer, or what it answers is no use.
        """
        try:
            return self._remembered(path, dict(inputs.params()), None)
        except InvalidRequest:
            # Something that is no text: it goes as it came.
            return self._remembered(path, {}, inputs.resource())

    def _remembered(
        self, path: str, params: dict[str, str], body: Resource | None
    ) -> Resource | None:
        text = resource_json.format(body).decode() if body is not None else ""
        key = (path, json.dumps(params, sort_keys=True) + text)
        now = self._clock()
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and now < kept[0]:
                self._kept.move_to_end(key)
                return kept[1]
        found = self._ask(path, params, text)
        with self._lock:
            self._kept[key] = (now + self._keep_seconds, found)
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return found

    def _ask(self, path: str, params: dict[str, str], body: str) -> Resource | None:
        try:
            with requests.request(
                "POST" if body else "GET",
                f"{self._base_url}/{path}",
                params=params,
                data=body.encode() if body else None,
                headers={"Accept": _FHIR_JSON, "Content-Type": _FHIR_JSON},
                timeout=_TIMEOUT,
                stream=True,
            ) as response:
                if response.status_code in _UNKNOWN:
                    return None
                if response.status_code != 200:
                    raise TerminologyUnavailable(
                        f"the terminology server answers {response.status_code}"
                    )
                return _parsed(_body(response))
        except requests.RequestException as error:
            raise TerminologyUnavailable(
                f"the terminology server does not answer ({type(error).__name__})"
            ) from None


def _body(response: requests.Response) -> bytes:
    found = bytearray()
    for chunk in response.iter_content(65_536):
        found += chunk
        if len(found) > _MOST_BYTES:
            raise TerminologyUnavailable("the terminology server answers too much")
    return bytes(found)


def _parsed(body: bytes) -> Resource:
    try:
        return resource_json.parse_resource(body)
    except MalformedResource:
        raise TerminologyUnavailable("the terminology server answers no FHIR JSON") from None
