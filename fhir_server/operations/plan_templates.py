"""Templates of plans: shipped PlanDefinitions become resources that a clinic may change.

One is stored where nothing has ever been under its id. So neither an edited nor a deleted
one comes back with the next start.
"""

import logging
from collections.abc import Sequence

from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import next_version
from fhir_server.errors import StoreUnavailable
from fhir_server.interactions.context import Context
from fhir_server.store.protocol import Transaction

_log = logging.getLogger(__name__)


async def store_templates(ctx: Context, templates: Sequence[Resource]) -> int:
    """How many of `templates` were new; a store that is away gets them with the next start."""
    keys = [ResourceKey("PlanDefinition", template["id"]) for template in templates]

    def decide(tx: Transaction) -> int:
        stored = 0
        for key, template in zip(keys, templates, strict=True):
            if tx.read(key) is None:
                tx.put(*next_version(None, key, template, tx.now))
                stored += 1
        return stored

    # Every start looks; only the first one of a store writes.
    try:
        for key in keys:
            if await ctx.store.read(key) is None:
                return await ctx.store.commit(decide)
    except StoreUnavailable as error:
        _log.warning("the templates of plans were not stored: %s", error)
    return 0
