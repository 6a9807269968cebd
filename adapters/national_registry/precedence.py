"""A Patient who got another identifier goes before what is sent under the new one.

The registry is asked to create a Patient unless it knows the identifier. Measurements that
overtook the change of it would make the same person a second time there.
"""

from collections.abc import Callable

from adapters.national_registry.patient import outward
from adapters.national_registry.port import Read
from adapters.national_registry.translate import Rules
from fhir_server.core.version import Version
from fhir_server.errors import DeliveryPending, DeliveryRejected

_UNDER_WAY = ("queued", "sent")
_STOPPED = ("parked", "rejected")
_SOON = 0.5


def check_told(
    patient: Version,
    reached: int,
    read: Read,
    state: Callable[[int], str | None],
    rules: Rules,
) -> None:
    """Let pass what may be sent with `patient`, its current state.

    Args:
        patient: whom it is about.
        reached: a sequence up to which all deliveries were made.
        read: any version.
        state: what became of the delivery of the version at a sequence.
        rules: by what the registry knows patients.

    Raises:
        DeliveryPending: the change of the identifier is still to be told.
        DeliveryRejected: the registry has not taken it.
    """
    renamed = _renamed(patient, read, rules)
    if renamed is None:
        return
    told = state(renamed.sequence)
    # Without a delivery it is one to come, or from before the receiver's begin.
    if told in _UNDER_WAY or (told is None and renamed.sequence > reached):
        raise DeliveryPending("the Patient's new identifier is told first", _SOON)
    if told in _STOPPED:
        raise DeliveryRejected("the registry has not taken the Patient's new identifier")


def _renamed(patient: Version, read: Read, rules: Rules) -> Version | None:
    """The last version that changed by what the registry knows the Patient."""
    current = patient
    while current.version_id > 1:
        before = read(current.key, current.version_id - 1)
        if before is None:
            return None
        if not current.is_deletion and not before.is_deletion:
            was = outward(before.resource(), rules.patient_systems)
            now = outward(current.resource(), rules.patient_systems)
            if was is not None and now is not None and was.token != now.token:
                return current
        current = before
    return None
