"""What the registry is told under a policy of de-identification."""

from collections.abc import Iterable, Mapping

from adapters.national_registry.translate import Change, Rules, is_wanted, reading_token
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version
from fhir_server.errors import DeliveryWithheld
from fhir_server.outbox.mask import Mask

UNKNOWABLE = 'the policy leaves no identifier to be known by: identifier = "hash" does'


def masked_changes(
    changed: Iterable[tuple[Version, Change]], mask: Mask, rules: Rules
) -> list[Change]:
    """The changes as the registry may know them.

    Raises:
        DeliveryWithheld: of some the policy leaves nothing that could be told.
    """
    made: list[Change] = []
    hidden: set[int] = set()
    for version, change in changed:
        current, previous = (
            _shown(change.current, mask, rules),
            _shown(change.previous, mask, rules),
        )
        if _is_lost(change.current, current, rules) or _is_lost(change.previous, previous, rules):
            hidden.add(version.sequence)
        made.append(Change(mask.key(change.key), change.version_id, current, previous))
    if hidden:
        raise DeliveryWithheld(UNKNOWABLE, hidden)
    return made


def masked_known(known: Mapping[ResourceKey, Resource], mask: Mask) -> dict[ResourceKey, Resource]:
    """What the changes refer to, as the registry may know it."""
    return {
        mask.key(key): given
        for key, resource in known.items()
        if (given := mask.resource(resource)) is not None
    }


def _shown(resource: Resource | None, mask: Mask, rules: Rules) -> Resource | None:
    if resource is None:
        return None
    # By what it is here: the policy takes the tag away that keeps it.
    if resource["resourceType"] == "Observation" and not is_wanted(resource, rules):
        return None
    return mask.resource(resource)


def _is_lost(resource: Resource | None, given: Resource | None, rules: Rules) -> bool:
    if resource is None or resource["resourceType"] != "Observation":
        return False
    return is_wanted(resource, rules) and (given is None or reading_token(given) is None)
