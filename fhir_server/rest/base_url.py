"""The base URL of links: configured, or what the client reached us by.

`Forwarded` and `X-Forwarded-*` are believed only from a trusted proxy: else anyone could
plant links to a server of theirs. RFC 7239.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from starlette.types import Scope

_HOST = re.compile(r"(?:[A-Za-z0-9\-._~]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?\Z")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9\-._~]+)+\Z")
_FORWARDED = re.compile(r'(\w+)\s*=\s*(?:"([^"]*)"|([^;,\s]*))')

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class BaseUrls:
    """Finds the FHIR base URL of a request; has no trailing slash."""

    def __init__(
        self, configured: str = "", trusted_proxies: Sequence[str] = (), prefix: str = "/fhir"
    ) -> None:
        self._configured = configured.rstrip("/")
        self._prefix = prefix
        self._trusted: tuple[Network, ...] = tuple(
            ipaddress.ip_network(proxy.strip(), strict=False) for proxy in trusted_proxies
        )

    @property
    def is_configured(self) -> bool:
        """Whether clients have no say in it."""
        return bool(self._configured)

    def find(self, scope: Scope, headers: Mapping[str, str]) -> str:
        """The base URL that this request came by."""
        if self._configured:
            return self._configured
        scheme: str = scope["scheme"]
        host = headers.get("host", "")
        path: str = scope.get("root_path", "")
        if self._trusted and self._is_trusted(scope):
            forwarded = _forwarded(headers)
            scheme = forwarded.get("proto", scheme)
            host = forwarded.get("host", host)
            path = forwarded.get("prefix", path)
        if not _HOST.match(host):
            server = scope.get("server") or ("localhost", None)
            host = server[0] if server[1] is None else f"{server[0]}:{server[1]}"
        return f"{scheme}://{host}{path}{self._prefix}"

    def client_address(self, scope: Scope, forwarded_for: str) -> str:
        """Where the request came from: what the trusted proxy says, or who is connected."""
        client = scope.get("client")
        address = client[0] if client else ""
        if forwarded_for and self._trusted and self._is_trusted(scope):
            # The last is what the proxy itself saw; those before it a client may have sent.
            told = _parse_address(forwarded_for.rpartition(",")[2].strip())
            address = address if told is None else str(told)
        return address

    def _is_trusted(self, scope: Scope) -> bool:
        client = scope.get("client")
        if client is None:
            return False
        address = _parse_address(client[0])
        return address is not None and any(address in network for network in self._trusted)


@lru_cache(maxsize=256)
def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    # The last proxy is the one that is trusted; what stands before it a client may have sent.
    standard = headers.get("forwarded", "").rpartition(",")[2]
    found = {m[1].lower(): m[2] or m[3] or "" for m in _FORWARDED.finditer(standard)}
    for name, header in (
        ("proto", "x-forwarded-proto"),
        ("host", "x-forwarded-host"),
        ("prefix", "x-forwarded-prefix"),
    ):
        value = headers.get(header, "").rpartition(",")[2].strip()
        if value:
            found.setdefault(name, value)
    port = headers.get("x-forwarded-port", "").strip()
    if port.isdigit() and "host" in found and ":" not in found["host"]:
        default = {"https": "443", "http": "80"}.get(found.get("proto", ""))
        if port != default:
            found["host"] += f":{port}"
    checks = {"host": _HOST, "prefix": _PREFIX, "proto": re.compile(r"https?\Z")}
    prefix = found.get("prefix", "").rstrip("/")
    if prefix:
        found["prefix"] = prefix
    return {name: found[name] for name, rule in checks.items() if rule.match(found.get(name, ""))}
