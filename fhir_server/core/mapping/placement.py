"""Where a reading belongs: whose it is, which device took it, which plan asked for it."""

from typing import NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.reading import IdentifierToken


class Placement(NamedTuple):
    """What stage two needs and only the store knows.

    `device_identifier` is the Device's own identifier, with its system: it, not what the
    payload wrote, is part of the reading's key. `is_auxiliary`: the Device is not
    registered as a medical one.
    """

    patient: ResourceKey
    device: ResourceKey
    device_identifier: IdentifierToken
    based_on: tuple[ResourceKey, ...] = ()
    is_auxiliary: bool = False
