"""Owners: whose record a version belongs to, the field that shards are told apart by.

It is the one Patient that `subject` or `patient` names; else the resource itself. What names
several is `SHARED`: a search for a patient asks for that one's versions and the shared ones.
"""

from collections.abc import Iterable, Sequence

from fhir_server.core.search.parameter import SearchParameter
from fhir_server.core.search.query import AllOf, AnyOf, Clause, Criterion, ReferenceValue
from fhir_server.store.mongo import keys
from fhir_server.store.mongo.steps import Filter

FIELD = "p"
SHARED = ""

_PARAMETERS = ("subject", "patient")
_PREFIXES = tuple(name + keys.SEPARATOR for name in _PARAMETERS)
_SUFFIX = keys.SEPARATOR + "Patient"
# More of them are as good as all shards.
_MOST = 100


def owner(resource_id: str, index_keys: Iterable[str]) -> str:
    """The owner of a version by its index keys; a purged one's are no more, nor is it searched."""
    patients = {
        key.split(keys.SEPARATOR)[1]
        for key in index_keys
        if key.startswith(_PREFIXES) and key.endswith(_SUFFIX)
    }
    if len(patients) > 1:
        return SHARED
    return patients.pop() if patients else resource_id


def narrowing(patients: Sequence[str]) -> Filter:
    """What all versions of these patients have; empty where it says too little."""
    if not patients or len(patients) > _MOST:
        return {}
    return {FIELD: {"$in": [*patients, SHARED]}}


def says_owner(parameter: SearchParameter) -> bool:
    """Whether the parameter is what makes the owner."""
    return bool(parameter.sources) and all(s.code in _PARAMETERS for s in parameter.sources)


def patients(criterion: Criterion) -> tuple[str, ...]:
    """The patients of whom all that meets the criterion is; none where it does not say."""
    match criterion:
        case Clause(parameter, "", values) if says_owner(parameter):
            limits = {source.target for source in parameter.sources}
            found = [_patient(value, limits) for value in values]
            return tuple(found) if all(found) else ()
        case AnyOf(criteria):
            each = [patients(one) for one in criteria]
            return tuple(dict.fromkeys(p for found in each for p in found)) if all(each) else ()
        case AllOf(criteria):
            return next(filter(None, map(patients, criteria)), ())
    return ()


def _patient(value: object, limits: set[str | None]) -> str:
    match value:
        case ReferenceValue(resource_type, str(resource_id), None):
            is_patient = resource_type == "Patient" or (not resource_type and limits == {"Patient"})
            return resource_id if is_patient else ""
    return ""
