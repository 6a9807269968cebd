"""Where a request comes from: the peer, or whom a trusted proxy says that it speaks for.

Stands for the client where nothing better is known of it.
"""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from starlette.types import Scope

UNKNOWN = "unknown"

_FORWARDED_FOR = b"x-forwarded-for"
_IPV6_CUSTOMER = 64

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ClientAddresses:
    """Finds the address of who asks; `trusted_proxies` are addresses or networks."""

    def __init__(self, trusted_proxies: Sequence[str] = ()) -> None:
        self._trusted: tuple[Network, ...] = tuple(
            ipaddress.ip_network(proxy.strip(), strict=False) for proxy in trusted_proxies
        )

    def find(self, scope: Scope) -> str:
        """The address; of IPv6 the network that one customer is given."""
        peer = scope.get("client")
        if peer is None:
            return UNKNOWN
        text: str = peer[0]
        if self._trusted and self.is_trusted(text):
            for name, value in scope["headers"]:
                if name == _FORWARDED_FOR:
                    text = self._speaks_for(value.decode("latin-1"), text)
        return _group(text)

    def is_trusted(self, text: str) -> bool:
        """Whether it is a proxy of ours."""
        address = _parse(text)
        return address is not None and any(address in network for network in self._trusted)

    def _speaks_for(self, header: str, peer: str) -> str:
        # From the right: what stands before the first stranger anyone may have written.
        for part in reversed(header.split(",")):
            text = part.strip()
            if _parse(text) is None:
                return peer
            if not self.is_trusted(text):
                return text
        return peer


@lru_cache(maxsize=4_096)
def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


@lru_cache(maxsize=4_096)
def _group(text: str) -> str:
    address = _parse(text)
    if address is None or address.version == 4:
        return text
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_CUSTOMER), strict=False))
