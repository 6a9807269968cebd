"""What the demo prints, for a person who has never seen FHIR."""

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fhir_server.cli import demo_insurer
from fhir_server.cli.demo_insurer import Insured
from fhir_server.core.mapping.key import IDENTIFIER_SYSTEM
from fhir_server.core.resource_json import Resource

_MEANINGS = {
    "Patient": "people who were enrolled",
    "Device": "devices that were handed out",
    "DeviceUseStatement": "who has which device, and since when",
    "CarePlan": "what a physician asked to be measured",
    "Goal": "the limits that the physician set",
    "Observation": "measurements",
    "DetectedIssue": "alerts: readings beyond a limit of the plan",
    "Task": "readings held back until a person has looked",
}

_VERDICTS = {
    "accepted": "new measurements, stored",
    "duplicate": "sent again, nothing doubled",
    "conflict": "sent again with another value, held back",
    "quarantined": "held back, with the reason",
    "ignored": "no measurement: a goal, or a value that was not taken",
}

# What a LOINC code is called at home; everything else has its display in the resource.
_NAMES = {
    "85354-9": "blood pressure",
    "8867-4": "pulse",
    "14743-9": "glucose",
    "41653-7": "glucose",
    "29463-7": "weight",
    "2708-6": "oxygen saturation",
    "59408-5": "oxygen saturation",
}

_UNITS = {"/min": "a minute", "mm[Hg]": "mmHg"}

_SHOWN = 40
_WIDE = 100


class Happened(NamedTuple):
    """All that the demo saw.

    `resources` are the server's by type; `first` and `again` the verdicts of sending every
    payload once, and once more; `reasons` why readings were held back; `faults` what is
    missing; `documents` what the registry has registered, signed with `signature`.
    """

    resources: Mapping[str, Sequence[Resource]]
    first: Counter[str]
    again: Counter[str]
    reasons: Counter[str]
    deliveries: Counter[str]
    at_registry: Counter[str]
    urls: Mapping[str, str]
    insured: Insured
    faults: Sequence[str]
    documents: Sequence[str] = ()
    signature: str = ""


def show(happened: Happened, console: Console) -> None:
    """Print it."""
    console.rule("[bold]What happened")
    _show_resources(happened, console)
    _show_measurements(happened, console)
    _show_verdicts(happened, console)
    _show_deliveries(happened, console)
    _show_documents(happened, console)
    demo_insurer.show(happened.insured, console)
    console.print("\n[bold]To look at[/]")
    for what, url in happened.urls.items():
        console.print(f"  {what:<34} {url}", highlight=False, soft_wrap=True)
    console.print()
    for fault in happened.faults:
        console.print(f"MISSING: {escape(fault)}", style="bold red")
    if not happened.faults:
        console.print("Everything arrived, once.", style="bold green")


def _show_resources(happened: Happened, console: Console) -> None:
    table = Table("stored", "how many", "in words", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    for resource_type, meaning in _MEANINGS.items():
        table.add_row(resource_type, str(len(happened.resources[resource_type])), meaning)
    console.print(table)


def _show_measurements(happened: Happened, console: Console) -> None:
    patients = {f"Patient/{each['id']}": each for each in happened.resources["Patient"]}
    devices = {f"Device/{each['id']}": each for each in happened.resources["Device"]}
    console.print("\n[bold]The measurements[/]")
    columns = ["measured", "patient", "what", "value", "registry"]
    table = Table(*columns, *(["device"] if console.width >= _WIDE else []), box=None)
    table.padding, table.pad_edge = (0, 2, 0, 0), False
    for column in table.columns:
        column.no_wrap = True
    found = sorted(happened.resources["Observation"], key=lambda each: _when(each))
    for each in found[:_SHOWN]:
        there = happened.at_registry[reading_identifier(each)]
        cells = [
            _when(each)[:16].replace("T", " "),
            _person(patients.get(_reference(each, "subject"), {})),
            _name(each),
            _value(each),
            {0: "-", 1: "has it"}.get(there, f"has it {there} times"),
            _device(devices.get(_reference(each, "device"), {})),
        ]
        table.add_row(*map(escape, cells[: len(table.columns)]))
    console.print(table)
    if len(found) > _SHOWN:
        console.print(f"  and {len(found) - _SHOWN} more")


def _show_verdicts(happened: Happened, console: Console) -> None:
    console.print("\n[bold]What became of the readings that were sent[/]")
    table = Table("verdict", "first time", "sent again", "in words", box=None, pad_edge=False)
    table.columns[1].justify = table.columns[2].justify = "right"
    for verdict, meaning in _VERDICTS.items():
        first, again = happened.first[verdict], happened.again[verdict]
        if first or again:
            table.add_row(verdict, str(first), str(again), meaning)
    console.print(table)
    for reason, number in sorted(happened.reasons.items()):
        console.print(f"  held back: {number} because of {escape(reason)}")


def _show_deliveries(happened: Happened, console: Console) -> None:
    console.print("\n[bold]Deliveries to the national registry (a stand-in, its own process)[/]")
    states = ", ".join(f"{number} {state}" for state, number in sorted(happened.deliveries.items()))
    console.print(f"  {states or 'none'}")
    once = sum(1 for number in happened.at_registry.values() if number == 1)
    console.print(f"  the registry has {once} measurements exactly once")


def _show_documents(happened: Happened, console: Console) -> None:
    how = {"gost": "GOST R 34.10-2012", "rsa": "RSA"}.get(happened.signature)
    if how is None:
        console.print("\n[bold]No documents were registered: openssl is not installed[/]")
        return
    console.print(f"\n[bold]Documents at the national registry, signed with {how}[/]")
    for document in happened.documents:
        console.print(f"  {escape(document)}", highlight=False)


def reading_identifier(observation: Resource) -> str:
    """What names the reading here and at the registry; "" for another Observation."""
    for identifier in observation.get("identifier") or ():
        if identifier.get("system") == IDENTIFIER_SYSTEM:
            return str(identifier.get("value", ""))
    return ""


def _when(observation: Resource) -> str:
    period = observation.get("effectivePeriod") or {}
    return str(observation.get("effectiveDateTime") or period.get("start") or "")


def _reference(resource: Resource, name: str) -> str:
    return str((resource.get(name) or {}).get("reference", ""))


def _person(patient: Resource) -> str:
    for name in patient.get("name") or ():
        return str(name.get("text") or " ".join([*name.get("given", ())[:1], name["family"]]))
    for identifier in patient.get("identifier") or ():
        return str(identifier.get("value", "?"))
    return "?"


def _device(device: Resource) -> str:
    for name in device.get("deviceName") or ():
        return str(name.get("name", "?"))
    return str((device.get("type") or {}).get("text", "?"))


def _name(coded: Resource) -> str:
    code = coded.get("code") or {}
    codings = code.get("coding") or ()
    for coding in codings:
        if coding.get("code") in _NAMES:
            return _NAMES[coding["code"]]
    return str(code.get("text") or next((c["display"] for c in codings if "display" in c), "?"))


def _value(observation: Resource) -> str:
    quantity = observation.get("valueQuantity")
    if quantity:
        return _quantity(quantity)
    parts = [each["valueQuantity"] for each in _components(observation) if "valueQuantity" in each]
    if not parts:
        return "not taken"
    together = " / ".join(map(_number, parts))
    return f"{together} {_unit(parts[0])}"


def _components(observation: Resource) -> Sequence[Mapping[str, Any]]:
    return observation.get("component") or ()


def _quantity(quantity: Mapping[str, Any]) -> str:
    return f"{quantity.get('comparator', '')}{_number(quantity)} {_unit(quantity)}"


def _number(quantity: Mapping[str, Any]) -> str:
    """As it was measured, but for the digits that a conversion between units left behind."""
    value = quantity.get("value", "?")
    is_long = isinstance(value, Decimal) and value != round(value, 2)
    return f"{value:.2f}" if is_long else str(value)


def _unit(quantity: Mapping[str, Any]) -> str:
    code = str(quantity.get("code", ""))
    return _UNITS.get(code) or str(quantity.get("unit") or code)
