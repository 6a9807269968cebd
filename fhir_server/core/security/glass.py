"""Breaking the glass: one patient's records in an emergency, for a reason that goes on record."""

from typing import NamedTuple

from fhir_server.core.identity import ResourceKey


class BrokenGlass(NamedTuple):
    """Whose records, and why, in the words of whoever asks."""

    patient: ResourceKey
    reason: str
