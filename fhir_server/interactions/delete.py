"""delete: a version that says the resource is no more. Its history stays.

https://hl7.org/fhir/R4/http.html#delete
"""

from fhir_server.core.etag import EntityTags
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import deletion
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import check_may, check_resource_type
from fhir_server.interactions.update import check_preconditions
from fhir_server.interactions.written import Written
from fhir_server.store.protocol import Decision, Transaction


async def delete(ctx: Context, key: ResourceKey, if_match: EntityTags | None = None) -> Written:
    """Delete `key`; to delete what is not there is no error.

    Raises:
        Unsupported: `key` comes with the program.
        PreconditionFailed: the current version is not what the client thinks.
    """
    check_resource_type(ctx, key.resource_type)
    check_may(ctx, "d", key.resource_type)
    ctx.shipped.check_changeable(key)
    return await ctx.store.commit(decide(key, if_match))


def decide(key: ResourceKey, if_match: EntityTags | None = None) -> Decision[Written]:
    """The decision of a deletion."""

    def decide_delete(tx: Transaction) -> Written:
        current = tx.read(key)
        check_preconditions(key, current, if_match)
        if current is None or current.is_deletion:
            return Written("absent", current)
        version = deletion(current, tx.now)
        tx.put(version, None)
        return Written("deleted", version)

    return decide_delete
