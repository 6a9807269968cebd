"""Restrictions: the criteria that tell what of a type lies within a circle of records.

The one place where "whose" becomes "which": searches add these criteria to their own, and
a version by itself is held against the same ones.
"""

from collections.abc import Iterable

from fhir_server.core.compartment import Compartments
from fhir_server.core.search.parameter import SearchParameter, SearchParameters, SearchType
from fhir_server.core.search.query import (
    AllOf,
    AnyOf,
    Clause,
    Criterion,
    Has,
    MissingValue,
    Not,
    ReferenceValue,
    TokenValue,
)
from fhir_server.core.security.circle import Circle

Criteria = tuple[Criterion, ...]

NOTHING = AnyOf(())
"""True of nothing."""

DIRECTORY = frozenset(
    {
        "ActivityDefinition", "CapabilityStatement", "ChargeItemDefinition", "CodeSystem",
        "CompartmentDefinition", "ConceptMap", "DeviceDefinition", "Endpoint", "EventDefinition",
        "ExampleScenario", "GraphDefinition", "HealthcareService", "ImplementationGuide",
        "InsurancePlan", "Library", "Location", "Measure", "Medication", "MedicationKnowledge",
        "MessageDefinition", "NamingSystem", "ObservationDefinition", "OperationDefinition",
        "Organization", "OrganizationAffiliation", "PlanDefinition", "Practitioner",
        "PractitionerRole", "Questionnaire", "ResearchDefinition", "ResearchElementDefinition",
        "SearchParameter", "SpecimenDefinition", "StructureDefinition", "StructureMap",
        "Substance", "SubstanceSpecification", "TerminologyCapabilities", "ValueSet",
    }
)  # fmt: skip
"""Types that are about no patient: whoever has a scope for them sees all of them."""

_SHARED = frozenset({"Group", "Person", "Schedule"})
"""Types whose resources are about several patients at once: they are nobody's alone."""

_GRANTING = frozenset({"Consent", "Coverage"})
"""What lets others see a patient's data is written by the patient, or by who sees everyone."""

_ASSIGNING = frozenset({"Patient", "Device", "DeviceUseStatement"})
"""What decides whose a reading is: an identifier written here could draw in another's."""

_TRAIL = "AuditEvent"
"""Who looked at a patient's data, and for what, is for the patient and for who sees everyone."""

SUBSCRIPTION = "Subscription"
_DEVICE = "Device"


class Knowledge:
    """By which parameters a resource says whose it is; safe to share between threads."""

    def __init__(self, parameters: SearchParameters, compartments: Compartments) -> None:
        self.parameters = parameters
        self._compartments = compartments

    def owners(self, resource_type: str) -> tuple[SearchParameter, ...]:
        """The parameters that name whom a resource is about; empty if it is about nobody."""
        if resource_type == "Patient":
            codes: Iterable[str] = ("_id",)
        elif resource_type in _SHARED:
            codes = ()
        elif self._names_patient(resource_type, "patient"):
            codes = ("patient",)
        elif self._names_patient(resource_type, "subject"):
            codes = ("subject",)
        else:
            codes = self._compartments.parameters("Patient", resource_type)
        found = (self.parameters.get(resource_type, code) for code in codes)
        return tuple(parameter for parameter in found if parameter is not None)

    def belonging(self, resource_type: str, patients: Iterable[str]) -> Criterion:
        """What says of a resource that it is about one of `patients`."""
        ids = sorted(patients)
        if not ids:
            return NOTHING
        if resource_type == "Patient":
            return self.identified(resource_type, ids)
        values = tuple(ReferenceValue("Patient", each) for each in ids)
        found = [Clause(parameter, "", values) for parameter in self.owners(resource_type)]
        return found[0] if len(found) == 1 else AnyOf(tuple(found))

    def identified(self, resource_type: str, ids: Iterable[str]) -> Criterion:
        parameter = self.parameters.get(resource_type, "_id")
        if parameter is None:
            return NOTHING
        return Clause(parameter, "", tuple(TokenValue(None, each) for each in ids))

    def within(self, circle: Circle, resource_type: str, *, is_write: bool) -> Criteria:
        """What all must hold of a resource within `circle`; none is everything."""
        if circle.owner is not None:
            return self._owned(circle, resource_type, is_write=is_write)
        if is_write and resource_type in _GRANTING and not (circle.is_own or circle.is_everyone):
            return (NOTHING,)
        if is_write and resource_type in _ASSIGNING and not circle.is_everyone:
            return (NOTHING,)
        if resource_type == _TRAIL and not (circle.is_own or circle.is_everyone):
            return (NOTHING,)
        if self.owners(resource_type):
            return self._of_patients(circle, resource_type)
        # A Binary or a Bundle is about somebody, and does not say whom: only who may see
        # everyone may see it.
        is_open = circle.is_everyone and circle.default
        if is_open or (resource_type in DIRECTORY and (circle.is_everyone or not is_write)):
            return ()
        return (NOTHING,)

    def _of_patients(self, circle: Circle, resource_type: str) -> Criteria:
        admitted = circle.of_type(resource_type)
        criteria: list[Criterion] = []
        if admitted.only is not None:
            alternatives = [self.belonging(resource_type, admitted.only)]
            alternatives += (
                AllOf((self.identified(resource_type, ids), self.belonging(resource_type, (one,))))
                for one, ids in admitted.permitted
            )
            if resource_type == _DEVICE and admitted.only:
                alternatives.append(self._in_use_by(admitted.only))
            alternatives = [each for each in alternatives if each != NOTHING]
            criteria.append(
                alternatives[0] if len(alternatives) == 1 else AnyOf(tuple(alternatives))
            )
        elif admitted.but:
            outside: Criterion = Not(self.belonging(resource_type, admitted.but))
            permitted = [
                AllOf((self.identified(resource_type, ids), self.belonging(resource_type, (one,))))
                for one, ids in admitted.permitted
            ]
            criteria.append(AnyOf((outside, *permitted)) if permitted else outside)
        criteria += (
            Not(AllOf((self.identified(resource_type, ids), self.belonging(resource_type, (one,)))))
            for one, ids in admitted.denied
        )
        return tuple(criteria)

    def _in_use_by(self, patients: Iterable[str]) -> Criterion:
        """A device that is said to be nobody's, and that one of `patients` has or had."""
        owner = self.parameters.get(_DEVICE, "patient")
        use = self.parameters.get("DeviceUseStatement", "device")
        if owner is None or use is None:
            return NOTHING
        unowned = Clause(owner, "missing", (MissingValue(is_missing=True),))
        return AllOf((unowned, Has(use, self.belonging("DeviceUseStatement", patients))))

    def _owned(self, circle: Circle, resource_type: str, *, is_write: bool) -> Criteria:
        """A manufacturer's devices, as long as they say nothing of who has them."""
        owner = self.parameters.get(_DEVICE, "organization")
        patient = self.parameters.get(_DEVICE, "patient")
        if is_write or resource_type != _DEVICE or owner is None or patient is None:
            return () if resource_type in DIRECTORY and not is_write else (NOTHING,)
        assert circle.owner is not None
        return (
            Clause(owner, "", (ReferenceValue(*circle.owner),)),
            Clause(patient, "missing", (MissingValue(is_missing=True),)),
        )

    def _names_patient(self, resource_type: str, code: str) -> bool:
        found = self.parameters.get(resource_type, code)
        if found is None or found.type is not SearchType.REFERENCE:
            return False
        return not found.target_types or "Patient" in found.target_types
