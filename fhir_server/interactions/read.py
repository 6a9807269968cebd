"""read: the current version of a resource.

https://hl7.org/fhir/R4/http.html#read
"""

from datetime import datetime

from fhir_server.core.etag import EntityTags
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version
from fhir_server.errors import Gone, NotFound
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import check_key, check_may


async def read(ctx: Context, key: ResourceKey) -> Version:
    """The current version of `key`; it has a body.

    Raises:
        NotFound: it never was.
        Gone: it was deleted.
    """
    # A key that was found is a legal one: the check is left to those that were not.
    check_may(ctx, "r", key.resource_type)
    version = await ctx.store.read(key)
    if version is None:
        check_key(ctx, key)
        version = ctx.shipped.get(key)
    if version is None:
        raise NotFound(f"{key} is not known")
    return check_present(version)


def check_present(version: Version) -> Version:
    """`version`, unless it is a deletion.

    Raises:
        Gone: it is.
    """
    if version.is_deletion:
        raise Gone(f"{version.key} was deleted", version.version_id)
    return version


async def is_unchanged(
    ctx: Context, version: Version, tags: EntityTags | None, since: datetime | None
) -> bool:
    """Whether the client has `version` already. `tags` decide where there are any.

    `since` is in whole seconds, as HTTP has it.
    """
    if tags is not None:
        return tags.match(version)
    if since is None or _second(version) > since:
        return False
    if version.version_id == 1:
        return True
    # Two versions within one second look alike to a clock of seconds: the client may
    # have seen the first.
    earlier = await ctx.store.vread(version.key, version.version_id - 1)
    return earlier is None or _second(earlier) < _second(version)


def _second(version: Version) -> datetime:
    return version.last_updated.replace(microsecond=0)
