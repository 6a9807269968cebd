"""The two doors by which resources are imported: a running server, or the store itself."""

import asyncio
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol, Self

import requests
from requests.auth import AuthBase

from fhir_server.app import Components
from fhir_server.cli.import_resources import Portion
from fhir_server.cli.server_access import AccessError
from fhir_server.core import resource_json
from fhir_server.errors import FhirError, InvalidRequest, StoreUnavailable
from fhir_server.interactions.batch import batch
from fhir_server.interactions.transaction import transaction
from fhir_server.rest import bundle_responses, error_handler

_TRIES = 6
_LONGEST_WAIT = 30.0
_TIMEOUT = (10, 300)
_FHIR_JSON = "application/fhir+json"
_TRANSIENT = (429, 503)


class Answer(NamedTuple):
    """What became of one entry; `stored` is updated, or there as it is."""

    effect: Literal["created", "stored", "failed"]
    reason: str = ""


class Door(Protocol):
    """Where portions go."""

    def send(self, portion: Portion) -> list[Answer]:
        """What became of each entry; what may pass is waited out, for it is safe to repeat.

        Raises:
            FhirError: nothing of the portion was taken, or it is not known what was.
        """
        ...


class ServerDoor:
    """By HTTP; `server` is the URL without /fhir, or with it; `auth` says who we are."""

    def __init__(self, server: str, auth: AuthBase | None = None) -> None:
        self._url = f"{server.rstrip('/').removesuffix('/fhir')}/fhir"
        self._session = requests.Session()
        self._session.auth = auth

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._session.close()

    def send(self, portion: Portion) -> list[Answer]:
        if not portion.places:
            return []
        body = resource_json.format(portion.bundle)
        reason = ""
        for _ in _waits():
            try:
                response = self._session.post(
                    self._url,
                    data=body,
                    headers={"Content-Type": _FHIR_JSON, "Accept": _FHIR_JSON},
                    timeout=_TIMEOUT,
                )
            except AccessError as error:
                raise StoreUnavailable(str(error)) from None
            except requests.RequestException as error:
                reason = f"{self._url} does not answer ({type(error).__name__})"
                continue
            if response.status_code == 200:
                answers, is_transient = _answers(_parsed(response.content))
                if not is_transient:
                    return answers
                reason = "the server is too busy"
                continue
            if response.status_code in (413, 404, 405, 400, 409, 412, 422):
                # A transaction fails as a whole.
                return _all_failed(portion, _diagnostics(_parsed(response.content)))
            reason = f"the server answers {response.status_code}"
            if response.status_code not in _TRANSIENT:
                break
        raise StoreUnavailable(reason)


class StoreDoor:
    """By the interactions themselves, in this process."""

    def __init__(self, components: Components) -> None:
        self._store = components.store
        # Only a request knows the server's own address; nothing refers to this one.
        self._context = components.context.at(
            components.settings.base_url or "http://localhost/fhir"
        )
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._runner.run(self._store.close())
        self._runner.close()

    def send(self, portion: Portion) -> list[Answer]:
        if not portion.places:
            return []
        for _ in _waits():
            try:
                response = self._runner.run(self._perform(portion))
            except StoreUnavailable:
                continue
            except FhirError as error:
                outcome = resource_json.parse(error_handler.outcome_of(error))
                return _all_failed(portion, _diagnostics(outcome))
            answers, is_transient = _answers(resource_json.parse(response))
            if not is_transient:
                return answers
        raise StoreUnavailable("the store is away, or too busy")

    async def _perform(self, portion: Portion) -> bytes:
        ctx = self._context
        if portion.bundle["type"] == "batch":
            results = await batch(ctx, portion.bundle)
            return bundle_responses.render("batch", ctx.base_url, results, None)
        results = await transaction(ctx, portion.bundle)
        return bundle_responses.render("transaction", ctx.base_url, results, None)


def _waits() -> Iterator[int]:
    """The tries, with growing pauses between them."""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(min(2.0**attempt / 2, _LONGEST_WAIT))
        yield attempt


def _parsed(body: bytes) -> Any:
    try:
        return resource_json.parse(body)
    except FhirError:
        raise InvalidRequest("the server's answer is no FHIR JSON") from None


def _answers(bundle: Any) -> tuple[list[Answer], bool]:
    """What the response Bundle says, and whether the same is worth another try."""
    answers: list[Answer] = []
    is_transient = False
    for entry in bundle.get("entry", ()):
        response = entry["response"]
        status = int(str(response["status"])[:3])
        is_transient |= status in _TRANSIENT
        if status == 201:
            answers.append(Answer("created"))
        elif status < 400:
            answers.append(Answer("stored"))
        else:
            answers.append(Answer("failed", _diagnostics(response.get("outcome"))))
    return answers, is_transient


def _all_failed(portion: Portion, reason: str) -> list[Answer]:
    return [Answer("failed", reason)] * len(portion.places)


def _diagnostics(outcome: Any) -> str:
    issues = outcome.get("issue", ()) if isinstance(outcome, dict) else ()
    said = []
    for issue in issues:
        at = ", ".join(issue.get("expression", ()))
        said.append(
            f"{issue.get('diagnostics', issue.get('code', ''))}" + (f" ({at})" if at else "")
        )
    return "; ".join(said[:3]) or "refused"
