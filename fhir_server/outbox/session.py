"""HTTP to a receiver: one deadline over all, bounded answers, no redirects, checked addresses."""

import socket
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from fhir_server.errors import DeliveryDeferred
from fhir_server.outbox.endpoint import EndpointError, OutboundPolicy, check_address, check_url

_LATE = "the receiver did not answer in time"
_STOPPING = "the worker is stopping"


class Timeouts(NamedTuple):
    """In seconds. `total` bounds a request from the first packet to the last byte read."""

    connect: float = 5.0
    read: float = 30.0
    total: float = 45.0


class Answer(NamedTuple):
    """What a receiver said. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class OutboundSession:
    """Kept-alive connections to one receiver; for one thread at a time.

    `ca_file` is the receiver's certificate authority where the system's do not do;
    `certificate` are the files of our own certificate and its key, for mutual TLS.
    Proxies, credentials and certificate bundles of the environment are not used: where
    patients' data go is decided in the settings alone.
    """

    def __init__(
        self,
        policy: OutboundPolicy,
        timeouts: Timeouts,
        *,
        max_answer_bytes: int = 8 * 1024 * 1024,
        ca_file: str | None = None,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        self._policy = policy
        self._timeouts = timeouts
        self._max_answer_bytes = max_answer_bytes
        self._open = _OpenSockets()
        self._closed = False
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = ca_file or True
        self._session.cert = certificate
        self._session.headers.clear()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, _GuardedAdapter(policy, self._open))

    def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send and read the answer.

        An answer without a length ends where the connection ends: only its content can
        tell whether it is whole.

        Raises:
            DeliveryDeferred: no whole answer came; the receiver may still have acted.
        """
        if self._closed:
            raise DeliveryDeferred(_STOPPING)
        try:
            check_url(url, self._policy)
        except EndpointError as refused:
            raise DeliveryDeferred(str(refused)) from None
        # The socket timeouts begin anew with each byte, so a receiver that drips would
        # hold the thread, and its lease, for ever.
        is_late = threading.Event()

        def expire() -> None:
            is_late.set()
            self._open.shut()

        deadline = threading.Timer(self._timeouts.total, expire)
        deadline.daemon = True
        deadline.start()
        try:
            with self._session.request(
                method,
                url,
                data=body,
                headers=dict(headers),
                timeout=(self._timeouts.connect, self._timeouts.read),
                allow_redirects=False,
                stream=True,
            ) as response:
                answer = Answer(
                    response.status_code,
                    {name.lower(): value for name, value in response.headers.items()},
                    self._read(response),
                )
        except requests.Timeout:
            raise DeliveryDeferred(_LATE) from None
        except requests.exceptions.SSLError:
            raise DeliveryDeferred("the receiver's certificate was not accepted") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            if (refusal := _refusal(error)) is not None:
                raise DeliveryDeferred(str(refusal)) from None
            if is_late.is_set():
                raise DeliveryDeferred(_LATE) from None
            raise DeliveryDeferred("the connection failed or was cut") from None
        finally:
            deadline.cancel()
        # A connection that ends within the headers, or in a body of no given length, looks
        # like a whole answer.
        if is_late.is_set() or self._closed:
            raise DeliveryDeferred(_LATE if is_late.is_set() else _STOPPING)
        return answer

    def close(self) -> None:
        """Cut what is under way and let go. From any thread."""
        self._closed = True
        self._open.shut()
        self._session.close()

    def _read(self, response: requests.Response) -> bytes:
        body = bytearray()
        for chunk in response.iter_content(64 * 1024):
            body += chunk
            if len(body) > self._max_answer_bytes:
                raise DeliveryDeferred("the receiver's answer is too long")
        return bytes(body)


class _OpenSockets:
    """The connections of one session, so that a deadline can end what they are doing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()

    def add(self, opened: socket.socket) -> socket.socket:
        """A second handle on `opened`: TLS takes the first one away into its own object."""
        handle = opened.dup()
        with self._lock:
            self._sockets.add(handle)
        return handle

    def discard(self, handle: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(handle)
        handle.close()

    def shut(self) -> None:
        with self._lock:
            for handle in self._sockets:
                try:
                    handle.shutdown(socket.SHUT_RDWR)
                except OSError:  # the other side was quicker
                    continue


class _Guarded(HTTPConnection):
    """Connects to an address only after it was checked, and to the one that was checked.

    Looked up and checked here, not before the request: a name can resolve to a public
    address when it is asked first and to a private one the next time.
    """

    policy: OutboundPolicy
    open_sockets: _OpenSockets
    _handle: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            raise NameResolutionError(
                self.host, self, socket.gaierror(socket.EAI_NONAME, "no such host")
            ) from error
        addresses = list(dict.fromkeys(str(info[4][0]) for info in found))
        try:
            for address in addresses:
                check_address(address.partition("%")[0], self.policy)
        except EndpointError as refusal:
            raise NewConnectionError(self, str(refusal)) from refusal
        failure: OSError | None = None
        for address in addresses:
            try:
                opened = create_connection(
                    (address, self.port),
                    self.timeout,
                    source_address=self.source_address,
                    socket_options=self.socket_options,
                )
            except OSError as error:
                failure = error
                continue
            self._handle = self.open_sockets.add(opened)
            return opened
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, "the connection timed out") from failure
        raise NewConnectionError(self, "no connection") from failure

    def close(self) -> None:
        super().close()
        if self._handle is not None:
            self.open_sockets.discard(self._handle)
            self._handle = None


class _GuardedHttps(_Guarded, HTTPSConnection):
    pass


class _GuardedAdapter(HTTPAdapter):
    """Makes every connection of a session a guarded one."""

    def __init__(self, policy: OutboundPolicy, open_sockets: _OpenSockets) -> None:
        self._policy = policy
        self._open_sockets = open_sockets
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        guard = {"policy": self._policy, "open_sockets": self._open_sockets}
        http = type("_Http", (_Guarded,), guard)
        https = type("_Https", (_GuardedHttps,), guard)
        self.poolmanager.pool_classes_by_scheme = {
            "http": type("_HttpPool", (HTTPConnectionPool,), {"ConnectionCls": http}),
            "https": type("_HttpsPool", (HTTPSConnectionPool,), {"ConnectionCls": https}),
        }


def _refusal(error: BaseException | None) -> EndpointError | None:
    """The refusal behind what requests and urllib3 made of it."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, EndpointError):
            return error
        error, seen = error.__cause__ or error.__context__, seen + 1
    return None
