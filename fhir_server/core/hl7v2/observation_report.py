"""ORU^R01 as IHE's device profile has it (PCD-01): OBX segments become groups of values.

https://www.ihe.net/uploadedFiles/Documents/PCD/IHE_PCD_TF_Vol2.pdf

A device says a blood pressure in several OBX segments that share a channel of its
containment tree (`1.0.2.*`) and a time: these are one group, its values by MDC code.
"""

import re
from collections.abc import Iterator
from typing import Any

import hl7  # type: ignore[import-untyped]

Report = dict[str, Any]

_LONGEST_MESSAGE = 1_000_000
_LINE_END = re.compile(r"[\r\n]+")
# Field separator, then component, repetition, escape, subcomponent, and perhaps truncation.
_HEADER = re.compile(r"MSH([!-/:-@\[-`{-~])([!-/:-@\[-`{-~]{4,5}?)\1")
_TIME = re.compile(
    r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(?:(\d\d)(\.\d{1,4})?)?([-+]\d{4})?\Z", re.ASCII
)
# Of OBX-11: results that replace or revoke others are for a person to decide.
_REVOKED = frozenset({"C", "D", "W"})
_NOT_OBTAINED = "X"
_QUESTIONABLE = "QUES"
_CONTAINMENT_LEVELS = 3


class InvalidMessageError(ValueError):
    """No message that can be read; the text holds no part of it."""


def parse(text: Any) -> Report:
    """`message`, `patient` and `groups` of an ORU^R01.

    A group is `{time, device, sub, questionable, values: {mdc: {value, comparator, unit}}}`;
    `time` is ISO, a value that was not obtained null.

    Raises:
        InvalidMessageError: it is none, or it corrects or revokes a result.
    """
    message = _message(text)
    header = message[0]
    kind = (_part(header, 9, 1), _part(header, 9, 2))
    if kind != ("ORU", "R01"):
        raise InvalidMessageError("the message is no ORU^R01")
    report: Report = {
        "message": {"control": _part(header, 10, 1), "time": _time(_part(header, 7, 1))},
        "patient": {"value": "", "system": ""},
        "groups": [],
    }
    groups: dict[tuple[str, str, str], Report] = {}
    devices: dict[str, str] = {}
    order_time = ""
    for segment in message:
        match str(segment[0]):
            case "PID":
                if groups:
                    raise InvalidMessageError("the message is about several patients")
                report["patient"] = _patient(segment)
            case "OBR":
                order_time = _part(segment, 7, 1)
            case "OBX":
                _add(segment, order_time, groups, devices)
            case _:
                pass
    report["groups"] = list(groups.values())
    return report


def _message(text: Any) -> hl7.Message:
    if not isinstance(text, str) or len(text) > _LONGEST_MESSAGE:
        raise InvalidMessageError("the message is no text, or too long")
    # Between files and terminals the carriage return of the standard rarely survives.
    lines = [line for line in _LINE_END.split(text.strip("\x0b\x1c\r\n \t")) if line.strip()]
    if not lines or not _is_header(lines[0]):
        raise InvalidMessageError("the message does not begin with MSH and its separators")
    try:
        return hl7.parse("\r".join(lines))
    except (hl7.HL7Exception, ValueError, IndexError, KeyError):
        raise InvalidMessageError("the message is no HL7 version 2") from None


def _is_header(line: str) -> bool:
    """Whether the separators are ones that can be told from each other and from text."""
    found = _HEADER.match(line)
    if found is None:
        return False
    separators = found[1] + found[2]
    return len(set(separators)) == len(separators)


def _add(
    segment: Any,
    order_time: str,
    groups: dict[tuple[str, str, str], Report],
    devices: dict[str, str],
) -> None:
    """One OBX into its group.

    A level of the containment tree has no value; the top one names the device (OBX-18) of
    all below it, by the first number of OBX-4.
    """
    status = _part(segment, 11, 1)
    code = _code(segment)
    levels = _part(segment, 4, 1).split(".")
    device = _part(segment, 18, 1)
    if device:
        devices.setdefault(levels[0], device)
    if not _part(segment, 2, 1) or (not _part(segment, 5, 1) and status != _NOT_OBTAINED):
        return
    if status in _REVOKED:
        raise InvalidMessageError("the message corrects or revokes a result")
    sub = ".".join(levels[:_CONTAINMENT_LEVELS])
    time = _part(segment, 14, 1) or order_time
    device = device or devices.get(levels[0], "")
    group = groups.setdefault(
        (sub, time, device),
        {"time": _time(time), "device": device, "sub": sub, "questionable": False, "values": {}},
    )
    if code in group["values"]:
        raise InvalidMessageError("one channel says the same value twice")
    if _QUESTIONABLE in _repetitions(segment, 8):
        group["questionable"] = True
    comparator, value = _value(segment)
    group["values"][code] = {
        "value": None if status == _NOT_OBTAINED else value,
        "comparator": comparator,
        "unit": _unit(segment),
    }


def _code(segment: Any) -> str:
    """The MDC number of what was observed, else the code as it stands."""
    code, system = _part(segment, 3, 1), _part(segment, 3, 3)
    if not code or (system not in ("MDC", "") and _part(segment, 3, 6) != "MDC"):
        return f"{system}:{code}"
    return code if system in ("MDC", "") else _part(segment, 3, 4)


def _value(segment: Any) -> tuple[str, str]:
    """OBX-5 as comparator and value; only a structured number (`>^600`) has one."""
    if _part(segment, 2, 1) == "SN":
        return _part(segment, 5, 1), _part(segment, 5, 2)
    return "", _part(segment, 5, 1)


def _unit(segment: Any) -> str:
    """The name of a unit of MDC (MDC_DIM_MMHG), else its code in UCUM."""
    return _part(segment, 6, 2) if _part(segment, 6, 3) == "MDC" else _part(segment, 6, 1)


def _patient(segment: Any) -> Report:
    """PID-3: the first identifier, and its authority where that is an OID or a URI."""
    authority, kind = _part(segment, 3, 4, 2), _part(segment, 3, 4, 3)
    prefix = {"ISO": "urn:oid:", "URI": ""}.get(kind)
    system = prefix + authority if authority and prefix is not None else ""
    return {"value": _part(segment, 3, 1), "system": system}


def _time(text: str) -> str | None:
    """ISO 8601; a time without minutes is no time of a measurement."""
    if not text:
        return None
    found = _TIME.match(text)
    if found is None:
        raise InvalidMessageError("a time of the message is not one to the minute")
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    return f"{year}-{month}-{day}T{hour}:{minute}:{second or '00'}{fraction or ''}{offset or ''}"


def _part(segment: Any, field: int, component: int, part: int = 1) -> str:
    """A subcomponent of a field's first repetition, unescaped; "" where there is none."""
    found: Any = _at(segment, field)
    if isinstance(found, hl7.Field):
        found = _at(found, 0)
    if isinstance(found, hl7.Repetition):
        found = _at(found, component - 1)
    elif component > 1:
        return ""
    if isinstance(found, hl7.Component):
        found = _at(found, part - 1)
    elif part > 1:
        return ""
    return _unescaped(found)


def _repetitions(segment: Any, field: int) -> Iterator[str]:
    for repetition in _at(segment, field) or ():
        text = str(repetition)
        if text:
            yield text


def _at(container: Any, index: int) -> Any:
    return list.__getitem__(container, index) if index < len(container) else ""


_ESCAPES = {"\\F\\": "|", "\\S\\": "^", "\\T\\": "&", "\\R\\": "~", "\\E\\": "\\"}
_ESCAPE = re.compile(r"\\[FSTRE]\\")


def _unescaped(found: Any) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPES[match[0]], str(found)).strip()
