"""The key under which a batch is sent, the same for every attempt at the same batch."""

import hashlib
from collections.abc import Iterable

from fhir_server.core.version import Version


def idempotency_key(sink: str, versions: Iterable[Version]) -> str:
    """A digest of the sink and the exact versions sent, in any order.

    It lets a receiver recognize a repeated request. It cannot be all there is to being
    safe: after a crash the next claim may hold more or fewer versions and gets another
    key. So what is sent must be harmless to send again, one resource at a time.
    """
    digest = hashlib.sha256(sink.encode())
    for version in sorted((version.key, version.version_id) for version in versions):
        digest.update(f"\n{version[0]}/_history/{version[1]}".encode())
    return digest.hexdigest()
