"""A transaction that the registry answers later: what was sent, and where its answer will be.

Kept as a Task beside the resources it is about, so that a worker that takes over, in this
process or another, asks for the answer instead of sending again.
https://hl7.org/fhir/R4/async.html
"""

import uuid
from collections.abc import Sequence
from typing import NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version

TASK_SYSTEM = "https://pmp.example/fhir/CodeSystem/task"
TASK_CODE = "registry-acknowledgement"

_STATUS_URL, _ENTRIES, _VERSION = "status-url", "entries", "version"


class Awaited(NamedTuple):
    """`covered` are the versions that were sent, `entries` how many answers there must be.

    `is_open` while the registry is at work; `receipt` is what it said in the end.
    """

    url: str
    entries: int
    covered: frozenset[str]
    is_open: bool
    receipt: str


def reference(version: Version) -> str:
    return f"{version.key}/_history/{version.version_id}"


def task_key(sink: str, first: Version) -> ResourceKey:
    """Where the answer to what begins with `first` is kept: later attempts begin with it too."""
    name = f"https://pmp.example/fhir/Task?sink={sink}&first={reference(first)}"
    return ResourceKey("Task", str(uuid.uuid5(uuid.NAMESPACE_URL, name)))


def task(versions: Sequence[Version], url: str, entries: int) -> Resource:
    """The registry has taken `versions` and will answer at `url`."""
    return {
        "resourceType": "Task",
        "status": "in-progress",
        "intent": "order",
        "code": {"coding": [{"system": TASK_SYSTEM, "code": TASK_CODE}]},
        "focus": {"reference": str(versions[0].key)},
        "input": [
            {"type": {"text": _STATUS_URL}, "valueUrl": url},
            {"type": {"text": _ENTRIES}, "valueInteger": entries},
            *(
                {"type": {"text": _VERSION}, "valueReference": {"reference": reference(each)}}
                for each in versions
            ),
        ],
    }


def closed(resource: Resource, status: str, receipt: str) -> Resource:
    """`status`: "completed" when the registry has taken it, else "failed"."""
    said = {"type": {"text": "receipt"}, "valueString": receipt}
    return {**resource, "status": status, "output": [said]}


def awaited(resource: Resource) -> Awaited | None:
    """What a Task of ours says; None if it failed, or was altered beyond reading."""
    if resource.get("status") not in ("in-progress", "completed"):
        return None
    by_type: dict[str, list[Resource]] = {}
    for each in resource.get("input") or ():
        by_type.setdefault((each.get("type") or {}).get("text", ""), []).append(each)
    try:
        url = by_type[_STATUS_URL][0]["valueUrl"]
        entries = int(by_type[_ENTRIES][0]["valueInteger"])
        covered = frozenset(each["valueReference"]["reference"] for each in by_type[_VERSION])
        is_open = resource["status"] == "in-progress"
        receipt = "" if is_open else resource["output"][0]["valueString"]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return Awaited(url, entries, covered, is_open, receipt)
