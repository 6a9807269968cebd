"""Telling: which versions may be told to whom a Subscription is for, asked at each delivery."""

from collections.abc import Callable, Sequence

from fhir_server.core.version import Version
from fhir_server.outbox.mask import Mask

Visible = Callable[[Version, Sequence[Version]], Sequence[Version]]
"""Those of some versions that a Subscription, given in its newest version, may be told now.

Raises `StoreUnavailable` where it cannot be found out: then nothing is told.
"""

Masking = Callable[[Version], Mask | None]
"""Through which mask a Subscription, given in its newest version, is told; None: as it is.

Raises `DeliveryWithheld` where it may not be told at all.
"""


Orphaned = Callable[[Version], bool]
"""Whether whom a Subscription is for is not here any more. Raises `StoreUnavailable`."""


def nobody_leaves(_subscription: Version) -> bool:
    """Where it is not known who subscribes."""
    return False


def unmasked(_subscription: Version) -> None:
    """Where no recipient has a policy."""
    return None


def everything(_subscription: Version, versions: Sequence[Version]) -> Sequence[Version]:
    """Where there are no access rules."""
    return versions
