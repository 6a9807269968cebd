"""Where deliveries may go: checked as a URL when it is set, as an address when it connects.

A receiver's URL comes from settings, later from Subscriptions that clients write. Without
these rules one could make the server talk to what only it can reach.
"""

import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit

_SHARED = ipaddress.ip_network("100.64.0.0/10")  # carrier-grade NAT: not "private" to Python
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class OutboundPolicy(NamedTuple):
    """`allow_private` lets deliveries go to http, loopback and private addresses."""

    allow_private: bool = False


class EndpointError(ValueError):
    """A URL or address that deliveries may not go to."""


def check_url(url: str, policy: OutboundPolicy) -> None:
    """Refuse a URL that no connection should be tried for.

    Raises:
        EndpointError: no absolute http(s) URL, credentials or a fragment in it, http or
            a literal private address where these are not allowed.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise EndpointError("the endpoint is no URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise EndpointError("the endpoint is no http or https URL")
    if any(character <= " " or character == "\x7f" for character in url):
        raise EndpointError("the endpoint's URL has a space or control character in it")
    if parts.username is not None or parts.password is not None:
        raise EndpointError("the endpoint's URL has credentials in it: use the settings")
    if parts.fragment:
        raise EndpointError("the endpoint's URL has a fragment")
    if port == 0:
        raise EndpointError("the endpoint's port is 0")
    if policy.allow_private:
        return
    if parts.scheme != "https":
        raise EndpointError("the endpoint is not https, and ALLOW_PRIVATE_ENDPOINTS is off")
    if host == "localhost" or host.endswith(".localhost"):
        raise EndpointError("the endpoint is this machine, and ALLOW_PRIVATE_ENDPOINTS is off")
    if (literal := _literal(host)) is not None:
        check_address(literal, policy)


def check_address(address: Address | str, policy: OutboundPolicy) -> None:
    """Refuse an address that a name resolved to.

    Raises:
        EndpointError: it is not a public unicast address and these are not allowed.
    """
    if policy.allow_private:
        return
    resolved = ipaddress.ip_address(address) if isinstance(address, str) else address
    if not _is_public(resolved):
        raise EndpointError(
            "the endpoint's address is not public, and ALLOW_PRIVATE_ENDPOINTS is off"
        )


def _is_public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        # An IPv4 address in IPv6 clothes reaches the IPv4 network.
        if address.ipv4_mapped is not None:
            return _is_public(address.ipv4_mapped)
        if address.sixtofour is not None:
            return _is_public(address.sixtofour)
        if address in _NAT64:
            return _is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        if address.is_site_local:
            return False
    elif address in _SHARED:
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
