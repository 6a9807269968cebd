"""Which profiles the Observations of a rule claim in `meta.profile`."""

from collections.abc import Iterable

_OURS = "https://pmp.example/fhir/StructureDefinition/"
_DEVICE_READING = _OURS + "device-reading"
_AUXILIARY_READING = _OURS + "auxiliary-reading"


def claims(known: Iterable[str], stated: Iterable[str], *, is_auxiliary: bool) -> list[str]:
    """Those `known` to fit the kind and those that the rule has `stated`, without repeats.

    Where none of ours is known it is a device reading, and nothing more exact.
    """
    found = list(known)
    if is_auxiliary:
        found.append(_AUXILIARY_READING)
    elif not any(url.startswith(_OURS) for url in found):
        found.append(_DEVICE_READING)
    return list(dict.fromkeys((*found, *stated)))
