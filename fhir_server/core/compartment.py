"""Compartments: what belongs to a patient, a device, an encounter.

https://hl7.org/fhir/R4/compartmentdefinition.html
"""

from collections.abc import Iterable, Mapping

# How HL7's definitions say "the resource that the compartment is about".
_ITSELF = "{def}"


class Compartments:
    """For each compartment type, the resource types in it and their search parameters.

    A resource is in the compartment `Patient/42` if one of its type's parameters refers
    to `Patient/42`. The resource itself is in its own compartment; for it the parameter
    is `_id`.
    """

    def __init__(self, definitions: Mapping[str, Mapping[str, Iterable[str]]]) -> None:
        self._by_type: dict[str, dict[str, tuple[str, ...]]] = {}
        for compartment_type, members in definitions.items():
            found = {
                resource_type: tuple(code for code in codes if code != _ITSELF)
                for resource_type, codes in members.items()
            }
            found[compartment_type] = ("_id", *found.get(compartment_type, ()))
            self._by_type[compartment_type] = found

    @property
    def types(self) -> frozenset[str]:
        """The types that have a compartment."""
        return frozenset(self._by_type)

    def resource_types(self, compartment_type: str) -> frozenset[str]:
        """The types that may be in such a compartment; empty if there is none of that type."""
        return frozenset(self._by_type.get(compartment_type, {}))

    def parameters(self, compartment_type: str, resource_type: str) -> tuple[str, ...]:
        """The codes of the parameters that tell; empty if the type is never in it."""
        return self._by_type.get(compartment_type, {}).get(resource_type, ())
