"""vread: a version of a resource, current or not.

https://hl7.org/fhir/R4/http.html#vread
"""

from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version
from fhir_server.errors import NotFound
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import check_key, check_may
from fhir_server.interactions.read import check_present

_LONGEST_VERSION_ID = 18


async def vread(ctx: Context, key: ResourceKey, version_id: str) -> Version:
    """The version of `key` that is called `version_id`; it has a body.

    Raises:
        NotFound: there is no such version.
        Gone: the version says that `key` was deleted.
    """
    check_key(ctx, key)
    check_may(ctx, "r", key.resource_type)
    version = None
    if _is_version_id(version_id):
        version = await ctx.store.vread(key, int(version_id))
        if version is None:
            shipped = ctx.shipped.get(key)
            version = shipped if shipped and shipped.version_id == int(version_id) else None
    if version is None:
        raise NotFound(f"{key} has no such version")
    return check_present(version)


def _is_version_id(text: str) -> bool:
    # Ours are counted: 01 and Arabic-Indic digits are no version, though int() reads them.
    return (
        text.isascii()
        and text.isdigit()
        and not text.startswith("0")
        and len(text) <= _LONGEST_VERSION_ID
    )
