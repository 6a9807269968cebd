"""A FHIR receiver over HTTP: its address, our credentials, and what its answers mean."""

from collections.abc import Callable, Mapping
from pathlib import Path

from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource
from fhir_server.errors import DeliveryDeferred, DeliveryRejected
from fhir_server.outbox.answer import codes_and_paths, parse_retry_after, told_outcome
from fhir_server.outbox.credentials import (
    ClientCredentials,
    Credentials,
    FixedHeaders,
    Secret,
    SigningKey,
)
from fhir_server.outbox.endpoint import OutboundPolicy, check_url
from fhir_server.outbox.section import Section
from fhir_server.outbox.session import Answer, OutboundSession, Timeouts
from fhir_server.outbox.sink import Access

_MEDIA_TYPE = "application/fhir+json"
_ALGORITHMS = ("RS384", "ES384", "RS256", "ES256", "PS384")

# Not about what was sent but about us, the way there, or the moment. A 412 is a condition
# that found several: a person has to look, and the reason says so.
_PASSING = frozenset({401, 403, 407, 408, 409, 421, 423, 425, 429})


class Receiver:
    """Sends and reads FHIR JSON. For one thread at a time; `close` from any.

    `who` is what messages call it: "the insurer".
    """

    def __init__(
        self,
        who: str,
        session: OutboundSession,
        url: str,
        credentials: Credentials,
        seconds: float,
    ) -> None:
        self._who = who
        self._session = session
        self._url = url.rstrip("/")
        self._credentials = credentials
        # The request, and a token that has to be fetched for it.
        self.longest = 2 * seconds
        """Seconds that one `send` may take."""

    def send(
        self,
        method: str,
        path: str,
        body: Resource | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """A success of the receiver's.

        Raises:
            DeliveryDeferred: not now, or nobody knows.
            DeliveryRejected: it refuses what was sent.
        """
        content = b"" if body is None else resource_json.format(body)
        said = {"Accept": _MEDIA_TYPE, **(headers or {})}
        if body is not None:
            said["Content-Type"] = f"{_MEDIA_TYPE}; charset=utf-8"
        url = f"{self._url}/{path}" if path else self._url
        answer = self._session.request(
            method, url, {**said, **self._credentials.headers()}, content
        )
        if answer.status == 401 and self._credentials.renew():
            answer = self._session.request(
                method, url, {**said, **self._credentials.headers()}, content
            )
        if not 200 <= answer.status < 300:
            raise self._refusal(answer)
        return answer

    def close(self) -> None:
        self._session.close()
        self._credentials.close()

    def _refusal(self, answer: Answer) -> DeliveryDeferred | DeliveryRejected:
        status = answer.status
        outcome = told_outcome(answer.body)
        reason = f"{self._who} answered {status}"
        if told := ", ".join(codes_and_paths(outcome)):
            reason += f" ({told})"
        # A 404 of a proxy or a wrong path is no word of the receiver's about this resource.
        is_passing = (
            status in _PASSING or status >= 500 or status < 400 or (status == 404 and not outcome)
        )
        if not is_passing:
            return DeliveryRejected(reason)
        asked = answer.headers.get("retry-after")
        date = answer.headers.get("date")
        return DeliveryDeferred(reason, None if asked is None else parse_retry_after(asked, date))


def read_receiver(who: str, section: Section, access: Access) -> Receiver:
    """The receiver that a section describes.

    Keys: `url`, `headers`, `oauth` (`token_url`, `client_id`, `client_secret` or `key_file`
    with `algorithm` and `key_id`, `scope`), `certificate_file` and `certificate_key_file` for
    mutual TLS, `ca_file`, `connect_seconds`, `read_seconds`, `total_seconds`.

    Raises:
        ValueError: a key that is missing or of the wrong kind, a file that is not there, or
            a URL that deliveries may not go to.
    """
    policy = OutboundPolicy(allow_private=access.allow_private_endpoints)
    url = section.text("url")
    check_url(url, policy)
    timeouts = Timeouts(
        connect=section.seconds("connect_seconds", 5.0),
        read=section.seconds("read_seconds", 15.0),
        total=section.seconds("total_seconds", 15.0),
    )
    ca_file = _file(section, "ca_file")
    certificate, key = _file(section, "certificate_file"), _file(section, "certificate_key_file")
    if bool(certificate) != bool(key):
        raise section.wrong("certificate_key_file", "set with certificate_file")

    def session() -> OutboundSession:
        return OutboundSession(
            policy,
            timeouts,
            ca_file=ca_file or None,
            certificate=(certificate, key) if certificate else None,
        )

    credentials: Credentials = FixedHeaders(section.table("headers"))
    if (oauth := section.section("oauth")) is not None:
        credentials = _client_credentials(oauth, policy, session, access)
    return Receiver(who, session(), url, credentials, timeouts.total)


def _client_credentials(
    oauth: Section,
    policy: OutboundPolicy,
    session: Callable[[], OutboundSession],
    access: Access,
) -> ClientCredentials:
    token_url, client_id = oauth.text("token_url"), oauth.text("client_id")
    check_url(token_url, policy)
    secret, key_file = oauth.text("client_secret", ""), oauth.text("key_file", "")
    algorithm = oauth.choice("algorithm", _ALGORITHMS, "RS384")
    key_id, scope = oauth.text("key_id", ""), oauth.text("scope", "")
    oauth.check_all_known()
    if bool(secret) == bool(key_file):
        raise oauth.wrong("key_file", "set, or client_secret, not both")
    proof: Secret | SigningKey
    if secret:
        proof = Secret(client_id, secret)
    else:
        try:
            proof = SigningKey(client_id, Path(key_file), algorithm, key_id)
        except ValueError as error:
            raise oauth.wrong("key_file", f"a key file: {error}") from None
    return ClientCredentials(session(), token_url, proof, scope, access.now)


def _file(section: Section, name: str) -> str:
    path = section.text(name, "")
    if path and not Path(path).is_file():
        raise section.wrong(name, "a file that is there")
    return path
