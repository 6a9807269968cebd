"""What is shipped and stored at a start, so that it can be read and searched.

Templates of plans are a clinic's to change: one is stored where nothing has ever been under its
id, so neither an edited nor a deleted one comes back. Of a profile the shipped text is what
counts (ADR 0025): one that is missing, edited or of another release is written anew.
"""

import logging
from collections.abc import Iterable

from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version, is_same_content, next_version
from fhir_server.errors import StoreUnavailable
from fhir_server.interactions.context import Context
from fhir_server.store.protocol import Transaction

_log = logging.getLogger(__name__)


async def store_shipped(
    ctx: Context, templates: Iterable[Resource], profiles: Iterable[Resource]
) -> int:
    """How many were written; a store that is away gets them with the next start."""
    shipped = [
        *((_key(template), template, False) for template in templates),
        *((_key(profile), profile, True) for profile in profiles),
    ]

    def decide(tx: Transaction) -> int:
        written = 0
        for key, resource, is_ours in shipped:
            current = tx.read(key)
            if _is_due(current, resource, is_ours=is_ours):
                tx.put(*next_version(current, key, resource, tx.now))
                written += 1
        return written

    # Every start looks; only one that finds something else in the store writes.
    try:
        for key, resource, is_ours in shipped:
            if _is_due(await ctx.store.read(key), resource, is_ours=is_ours):
                return await ctx.store.commit(decide)
    except StoreUnavailable as error:
        _log.warning("templates of plans and profiles were not stored: %s", error)
    return 0


def _key(resource: Resource) -> ResourceKey:
    return ResourceKey(resource["resourceType"], resource["id"])


def _is_due(current: Version | None, resource: Resource, *, is_ours: bool) -> bool:
    if current is None:
        return True
    return is_ours and not is_same_content(current, resource)
