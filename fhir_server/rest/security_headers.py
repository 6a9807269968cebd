"""What every answer tells browsers: it is no page, belongs into no frame and no shared cache.

A page says so itself where it needs more. https://owasp.org/www-project-secure-headers/
"""

from collections.abc import Iterable

Header = tuple[bytes, bytes]

CONTENT_SECURITY_POLICY = b"content-security-policy"

_ALWAYS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-site"),
    (CONTENT_SECURITY_POLICY, b"default-src 'none'; frame-ancestors 'none'; sandbox"),
    # Clients may keep what is theirs, and ask with its ETag whether it still holds.
    (b"cache-control", b"private, no-cache"),
)
_OVER_TLS: tuple[Header, ...] = (
    *_ALWAYS,
    (b"strict-transport-security", b"max-age=31536000"),
)
_NAMES = frozenset(name for name, _ in _OVER_TLS)


def added_to(headers: Iterable[Header], scheme: str) -> list[Header]:
    """`headers`, and those of ours that are not among them."""
    found = list(headers)
    ours = _OVER_TLS if scheme == "https" else _ALWAYS
    said = [name for name, _ in found if name in _NAMES]
    return found + ([pair for pair in ours if pair[0] not in said] if said else list(ours))
