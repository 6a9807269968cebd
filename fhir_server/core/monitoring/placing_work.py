"""The work that a corrected assignment leaves behind: a Task that says how far it is.

https://hl7.org/fhir/R4/task.html

It is put in the commit of the correction and changed in the commit of each piece, so
whoever goes on after a crash goes on where it was.
"""

from datetime import datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any, NamedTuple

from fhir_server.core import date_range
from fhir_server.core.date_range import EARLIEST, LATEST, DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.alert import format_moment
from fhir_server.core.monitoring.assignment import local_key
from fhir_server.core.monitoring.quarantine import TASK_SYSTEM
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import format_instant

TASK_CODE = "place-readings-again"
OPEN_STATUSES = ("requested", "in-progress")
INPUT_SYSTEM = "https://pmp.example/fhir/CodeSystem/placing-input"
OUTPUT_SYSTEM = "https://pmp.example/fhir/CodeSystem/placing-output"
PROCESS_SYSTEM = "https://pmp.example/fhir/NamingSystem/process"
# A piece takes less than a second; nothing goes wrong when two processes are at one work.
LEASE = timedelta(seconds=5)

_SAYS = "Readings of a device whose assignment was corrected find their patients again."


class Step(StrEnum):
    """What is looked at: readings by their time, those without one, what was held back."""

    DATED = "dated"
    UNDATED = "undated"
    QUARANTINE = "quarantine"


class Counts(NamedTuple):
    """What was done so far."""

    looked_at: int = 0
    moved: int = 0
    withdrawn: int = 0
    released: int = 0

    def plus(self, other: "Counts") -> "Counts":
        return Counts(*(a + b for a, b in zip(self, other, strict=True)))


class Work(NamedTuple):
    """Place the readings of `device` in `stretch` again, for the reason of `statement`.

    `statement` is a version of a DeviceUseStatement as a reference, `former` the patient
    that it gave the device to before. `cursor` is where `step` goes on.
    """

    device: ResourceKey
    statement: str
    stretch: DateRange
    former: ResourceKey | None = None
    step: Step = Step.DATED
    cursor: str = ""
    counts: Counts = Counts()


def work_task(work: Work, now: datetime) -> Resource:
    """The Task of work that nobody has begun."""
    inputs = []
    if work.stretch.start > EARLIEST:
        inputs.append(_part(INPUT_SYSTEM, "from", "valueString", format_moment(work.stretch.start)))
    if work.stretch.end < LATEST:
        inputs.append(_part(INPUT_SYSTEM, "until", "valueString", format_moment(work.stretch.end)))
    if work.former is not None:
        reference = {"reference": str(work.former)}
        inputs.append(_part(INPUT_SYSTEM, "former-patient", "valueReference", reference))
    task: Resource = {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "code": {"coding": [{"system": TASK_SYSTEM, "code": TASK_CODE}]},
        "description": _SAYS,
        "focus": {"reference": str(work.device)},
        "authoredOn": format_instant(now),
        "lastModified": format_instant(now),
        "reasonReference": {"reference": work.statement},
    }
    if inputs:
        task["input"] = inputs
    return task


def is_work(task: Resource) -> bool:
    codings = (task.get("code") or {}).get("coding", ())
    return any((c.get("system"), c.get("code")) == (TASK_SYSTEM, TASK_CODE) for c in codings)


def former_patient(task: Resource) -> ResourceKey | None:
    """The patient that the correction took the device from; None for another kind of Task."""
    if not is_work(task):
        return None
    return local_key(_values(task, "input").get("former-patient"), "Patient")


def parse_work(task: Resource, zone: tzinfo) -> Work:
    """What a Task asks for, and how far it is.

    Raises:
        ValueError: somebody altered it.
    """
    device = local_key(task.get("focus"), "Device")
    if device is None or not is_work(task):
        raise ValueError("the Task names no device of this server")
    given, done = _values(task, "input"), _values(task, "output")
    try:
        return Work(
            device,
            task["reasonReference"]["reference"],
            DateRange(
                date_range.parse(given["from"], zone).start if "from" in given else EARLIEST,
                date_range.parse(given["until"], zone).start if "until" in given else LATEST,
            ),
            local_key(given.get("former-patient"), "Patient"),
            Step(done.get("step", Step.DATED)),
            done.get("cursor", ""),
            Counts(*(int(done.get(name.replace("_", "-"), 0)) for name in Counts._fields)),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the Task lacks a part: {error}") from None


def is_for(task: Resource, owner: str, now: datetime) -> bool:
    """Whether `owner` may go on with it: it is open, and nobody else is at it."""
    if task.get("status") not in OPEN_STATUSES:
        return False
    other = (task.get("owner") or {}).get("identifier", {}).get("value")
    if other is None or other == owner:
        return True
    return now - datetime.fromisoformat(task["lastModified"]) > LEASE


def with_progress(task: Resource, work: Work, owner: str, now: datetime) -> Resource:
    """The Task as far as `work` is, in the hands of `owner`."""
    changed = {
        **task,
        "status": "in-progress",
        "lastModified": format_instant(now),
        "owner": {"identifier": {"system": PROCESS_SYSTEM, "value": owner}},
        "output": [*_told(work.counts), _part(OUTPUT_SYSTEM, "step", "valueString", work.step)],
    }
    if work.cursor:
        changed["output"].append(_part(OUTPUT_SYSTEM, "cursor", "valueString", work.cursor))
    return changed


def finished(task: Resource, counts: Counts, now: datetime) -> Resource:
    """The Task done."""
    return {
        **task,
        "status": "completed",
        "lastModified": format_instant(now),
        "output": list(_told(counts)),
    }


def failed(task: Resource, reason: str, now: datetime) -> Resource:
    """The Task that cannot be done; a person has to look at it."""
    return {
        **task,
        "status": "failed",
        "statusReason": {"text": reason},
        "lastModified": format_instant(now),
    }


def _told(counts: Counts) -> list[Resource]:
    return [
        _part(OUTPUT_SYSTEM, name.replace("_", "-"), "valueUnsignedInt", number)
        for name, number in counts._asdict().items()
    ]


def _part(system: str, code: str, name: str, value: Any) -> Resource:
    return {"type": {"coding": [{"system": system, "code": code}]}, name: value}


def _values(task: Resource, element: str) -> dict[str, Any]:
    return {
        coding["code"]: next(v for n, v in part.items() if n.startswith("value"))
        for part in task.get(element, ())
        for coding in part["type"].get("coding", ())
        if coding.get("system") in (INPUT_SYSTEM, OUTPUT_SYSTEM)
    }
