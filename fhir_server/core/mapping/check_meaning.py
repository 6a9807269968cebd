"""Whether what a mapping says can be true: kinds, codes, units, profiles and flags that fit.

A well-known public sample codes diastolic pressure as heart rate. Here a code is only a
claim that is compared with `terminology/measurements.json`; what is written into the
Observation comes from there.
"""

from collections.abc import Iterator
from typing import Any

from fhir_server.core.mapping.document import Path
from fhir_server.core.mapping.knowledge import (
    LOINC,
    MDC,
    Knowledge,
    Measurement,
    Owner,
    Quality,
)

Found = tuple[Path, str]


def check_meaning(document: Any, knowledge: Knowledge) -> Iterator[Found]:
    """Every claim that does not hold. Parts of the wrong shape are left to the schema."""
    for index, record in enumerate(_list(_dict(document).get("records"))):
        path: Path = ("records", index)
        yield from _check_flags(record, path, knowledge)
        yield from _check_supplements(_dict(record), path)
        yield from _check_sources(_dict(record), path)
        for number, reading in enumerate(_list(_dict(record).get("readings"))):
            if isinstance(reading, dict):
                yield from _check_reading(reading, (*path, "readings", number), knowledge)


def _check_reading(reading: dict[str, Any], path: Path, knowledge: Knowledge) -> Iterator[Found]:
    kind = reading.get("kind")
    if not isinstance(kind, str):
        return
    yield from _check_flags(reading, path, knowledge)
    measurement = knowledge.measurements.get(kind)
    if measurement is None:
        yield from _check_local(reading, kind, path, knowledge)
        return
    yield from _check_shape(reading, kind, measurement, path)
    yield from _check_profiles(reading, kind, path, knowledge)
    owner = Owner(kind)
    value = reading.get("value")
    claimed = {**reading, **{k: v for k, v in _dict(value).items() if k in ("loinc", "mdc")}}
    units = _stored(_dict(value))
    yield from _check_codes(claimed, owner, measurement, units, path, knowledge)
    if isinstance(value, dict) and not measurement.is_panel:
        yield from _check_value(value, owner, measurement, (*path, "value"), knowledge)
    for name, part in _dict(reading.get("components")).items():
        component = measurement.components.get(name)
        here = (*path, "components", name)
        if component is None:
            known = ", ".join(measurement.components) or "none"
            yield here, f"{kind} has no component `{name}`; it has: {known}"
        elif isinstance(part, dict):
            part_owner = Owner(kind, name)
            yield from _check_codes(part, part_owner, component, _stored(part), here, knowledge)
            yield from _check_value(part, part_owner, component, here, knowledge)
            yield from _check_source(part, name, measurement, here)


def _check_sources(record: dict[str, Any], path: Path) -> Iterator[Found]:
    """A reading rests on one that its record has found before it."""
    seen: set[Any] = set()
    for number, reading in enumerate(_list(record.get("readings"))):
        source = _dict(reading).get("derived-from")
        if isinstance(source, str) and source not in seen:
            here = (*path, "readings", number, "derived-from")
            yield here, f"no reading of the kind `{source}` stands before this one"
        seen.add(str(_dict(reading).get("kind")))


def _check_local(
    reading: dict[str, Any], kind: str, path: Path, knowledge: Knowledge
) -> Iterator[Found]:
    """A kind that is not in the table: it needs a code of its own, in no standard's name."""
    code = reading.get("code")
    if code is None:
        known = ", ".join(sorted(knowledge.measurements))
        yield (
            (*path, "kind"),
            f"`{kind}` is not in measurements.json and has no `code`; there are: {known}",
        )
        return
    if _dict(code).get("system") in (LOINC, MDC):
        yield (*path, "code"), "a code of LOINC or MDC is described in measurements.json first"
    for word in ("loinc", "mdc"):
        if word in reading:
            yield (*path, word), f"`{kind}` is not in measurements.json, so no code is known to fit"
    yield from _check_profiles(reading, kind, path, knowledge)
    values: list[tuple[Path, Any]] = [(("value",), reading.get("value"))]
    values += [(("components", n), v) for n, v in _dict(reading.get("components")).items()]
    for place, value in values:
        for unit in (*_measured(_dict(value)), *_stored(_dict(value))):
            if unit not in knowledge.units:
                yield (*path, *place), _unknown_unit(unit, knowledge)


def _check_shape(
    reading: dict[str, Any], kind: str, measurement: Measurement, path: Path
) -> Iterator[Found]:
    if "code" in reading:
        yield (*path, "code"), f"the codes of {kind} are in measurements.json"
    category = reading.get("category")
    if category is not None and category != measurement.category:
        yield (*path, "category"), f"{kind} is of the category {measurement.category}"
    if measurement.is_panel:
        if "value" in reading:
            yield (*path, "value"), f"{kind} is a panel: its values are `components`"
        components = _dict(reading.get("components"))
        for name, component in measurement.components.items():
            if component.required and name not in components:
                yield path, f"{kind} needs the component `{name}`"
    elif "value" not in reading:
        yield path, f"{kind} needs a `value`"


def _check_profiles(
    reading: dict[str, Any], kind: str, path: Path, knowledge: Knowledge
) -> Iterator[Found]:
    for index, profile in enumerate(_list(reading.get("profile"))):
        owners = knowledge.owners_of_profile(str(profile))
        if owners and kind not in owners:
            yield (*path, "profile", index), f"this profile is for {owners[0]}, not for {kind}"


def _check_codes(
    claimed: dict[str, Any],
    owner: Owner,
    quality: Quality,
    units: tuple[str, ...],
    path: Path,
    knowledge: Knowledge,
) -> Iterator[Found]:
    own = quality.loinc_codes()
    codes = claimed.get("loinc", [])
    for code in codes if isinstance(codes, list) else [codes]:
        here = (*path, "loinc")
        if code not in own:
            yield here, _whose(f"LOINC {code}", knowledge.owners_of_loinc(str(code)), owner, own)
        elif units and not any(
            code in option.loinc for unit in units if (option := quality.code_for(unit)) is not None
        ):
            fitting = next(o.units for o in quality.codes if code in o.loinc)
            yield here, f"LOINC {code} is in {' or '.join(fitting)}, the value in {units[0]}"
    yield from _check_unclaimed(codes, quality, units, path)
    mdc = claimed.get("mdc")
    if mdc is None:
        if len(quality.mdc) > 1:
            choices = ", ".join(f"{c} {name}" for c, name in quality.mdc.items())
            yield path, f"{owner} has several codes of MDC, say which, or `none`: {choices}"
    elif mdc != "none" and str(mdc) not in quality.mdc:
        own_mdc = tuple(quality.mdc)
        reason = _whose(f"MDC {mdc}", knowledge.owners_of_mdc(str(mdc)), owner, own_mdc)
        yield (*path, "mdc"), reason


def _check_unclaimed(
    codes: Any, quality: Quality, units: tuple[str, ...], path: Path
) -> Iterator[Found]:
    """Codes that are named must be all that the value's units can lead to."""
    claimed = set(codes if isinstance(codes, list) else [codes])
    if not claimed:
        return
    for unit in units:
        option = quality.code_for(unit)
        if option is not None and option.loinc and not claimed & set(option.loinc):
            written = ", ".join(option.loinc)
            yield (*path, "loinc"), f"in {unit} the code is {written}, which is not named"


def _check_value(
    value: dict[str, Any], owner: Owner, quality: Quality, path: Path, knowledge: Knowledge
) -> Iterator[Found]:
    if quality.values or quality.free_text:
        if "unit" in value:
            yield (*path, "unit"), f"{owner} is a word and has no unit"
        if quality.free_text:
            return
        for text, ours in _dict(value.get("is")).items():
            if ours not in quality.values:
                known = ", ".join(quality.values)
                yield (*path, "is", text), f"`{ours}` is no value of {owner}; there are: {known}"
        return
    if "is" in value:
        yield (*path, "is"), f"{owner} is a number, not a word"
    own = quality.units()
    if "unit" not in value:
        yield path, f"{owner} needs a `unit`: {' or '.join(own)}"
        return
    store = value.get("store")
    for unit in _measured(value):
        if unit not in knowledge.units:
            yield (*path, "unit"), _unknown_unit(unit, knowledge)
        elif store is None and unit not in own:
            yield (*path, "unit"), f"{owner} is stored in {' or '.join(own)}, not in {unit}"
        elif store is not None and unit != store and knowledge.conversion(unit, str(store)) is None:
            yield (*path, "store"), f"no conversion from {unit} to {store} is known"
    if store is not None and store not in own:
        yield (*path, "store"), f"{owner} is stored in {' or '.join(own)}, not in {store}"


def _check_source(
    part: dict[str, Any], name: str, measurement: Measurement, path: Path
) -> Iterator[Found]:
    """A component that reads the field named after another one was mixed up."""
    field = str(part.get("at", "")).rpartition(".")[2].lower()
    if field != name and field in measurement.components:
        yield (*path, "at"), f"`{name}` is read from a field called `{field}`"


def _check_flags(holder: Any, path: Path, knowledge: Knowledge) -> Iterator[Found]:
    for index, flag in enumerate(_list(_dict(holder).get("flags"))):
        name = _dict(flag).get("name")
        if isinstance(name, str) and name not in knowledge.flags:
            known = ", ".join(sorted(knowledge.flags))
            yield (*path, "flags", index, "name"), f"there is no flag `{name}`; there are: {known}"


def _check_supplements(record: dict[str, Any], path: Path) -> Iterator[Found]:
    seen: set[Any] = set()
    for index, supplement in enumerate(_list(record.get("supplements"))):
        name = _dict(supplement).get("name")
        if isinstance(name, str) and name in seen:
            yield (*path, "supplements", index, "name"), f"`{name}` stands here twice"
        seen.add(name if isinstance(name, str) else None)


def _whose(code: str, owners: tuple[Owner, ...], owner: Owner, own: tuple[str, ...]) -> str:
    right = f"; {owner} is {' or '.join(own)}" if own else f"; {owner} has none"
    if owners:
        return f"{code} is {' and '.join(map(str, owners))}, not {owner}{right}"
    return f"{code} is not in measurements.json{right}"


def _unknown_unit(unit: str, knowledge: Knowledge) -> str:
    return f"`{unit}` is no UCUM unit of measurements.json; there are: {', '.join(knowledge.units)}"


def _measured(value: dict[str, Any]) -> tuple[str, ...]:
    unit = value.get("unit")
    if isinstance(unit, str):
        return (unit,)
    return tuple(dict.fromkeys(str(u) for u in _dict(_dict(unit).get("is")).values()))


def _stored(value: dict[str, Any]) -> tuple[str, ...]:
    store = value.get("store")
    return (str(store),) if store is not None else _measured(value)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
