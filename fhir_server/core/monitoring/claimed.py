"""The profiles that the resources of monitoring claim; `profiles/project` says what they demand."""

from fhir_server.core.resource_json import Resource

_OURS = "https://pmp.example/fhir/StructureDefinition/"

ALERT = _OURS + "alert"
ALERT_NOTICE = _OURS + "alert-notice"
ASSIGNMENT = _OURS + "device-assignment"
DEVICE = _OURS + "home-device"
GOAL = _OURS + "monitoring-goal"
PATIENT = _OURS + "monitored-patient"
PLAN = _OURS + "remote-monitoring-plan"

_DETAILS = frozenset({"detailRange", "detailQuantity"})


def claiming(profile: str) -> Resource:
    """The `meta` of a resource that claims one profile."""
    return {"profile": [profile]}


def claims_of_goal(goal: Resource) -> Resource:
    """The `meta` of a Goal, as a property; none for one that limits no measurement."""
    targets = goal.get("target") or ()
    if targets and all(_is_limit(target) for target in targets):
        return {"meta": claiming(GOAL)}
    return {}


def _is_limit(target: Resource) -> bool:
    is_coded = bool((target.get("measure") or {}).get("coding"))
    return is_coded and not _DETAILS.isdisjoint(target)
