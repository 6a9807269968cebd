"""What `extract_r4.py` keeps of R4's types: each with its elements."""

from collections.abc import Iterator, Mapping

from r4_package import STRUCTURE, Json, Package

_FHIR_TYPE = STRUCTURE + "structuredefinition-fhir-type"
_SYSTEM_TYPE = "http://hl7.org/fhirpath/System."


def elements(package: Package) -> dict[str, Json]:
    """Every resource type, datatype and backbone element with its elements."""
    types: dict[str, Json] = {}
    for definition in package.of_type("StructureDefinition").values():
        is_type = definition.get("derivation", "specialization") == "specialization"
        if is_type and definition["kind"] in ("resource", "complex-type"):
            types.update(_types_of(definition))
    return dict(sorted(types.items()))


def _types_of(definition: Json) -> Iterator[tuple[str, Json]]:
    snapshot = definition["snapshot"]["element"]
    children: dict[str, list[Json]] = {}
    for element in snapshot[1:]:
        children.setdefault(element["path"].rpartition(".")[0], []).append(element)
    root: str = definition["type"]
    for path, own in children.items():
        entry: Json = {"kind": "resource" if definition["kind"] == "resource" else "datatype"}
        if path != root:
            entry["kind"] = "backbone"
        if definition["abstract"]:
            entry["abstract"] = True
        entry["elements"] = [_element(element, children) for element in own]
        yield path, entry


def _element(element: Json, children: Mapping[str, object]) -> Json:
    path = element["path"]
    name = path.rpartition(".")[2]
    is_id_of_resource = name == "id" and element["base"]["path"] == "Resource.id"
    entry: Json = {"name": name.removesuffix("[x]")}
    if "contentReference" in element:
        entry["types"] = [element["contentReference"].removeprefix("#")]
    elif path in children:
        entry["types"] = [path]
    elif is_id_of_resource:
        # The snapshots say string, the specification's text says id.
        entry["types"] = ["id"]
    else:
        entry["types"] = [_type_code(t) for t in element["type"]]
    if any(t["code"].startswith(_SYSTEM_TYPE) for t in element.get("type", ())):
        entry["attribute"] = True
    if name.endswith("[x]"):
        entry["choice"] = True
    if element["max"] != "1":
        entry["list"] = True
    if element["min"]:
        entry["min"] = element["min"]
    if element.get("isSummary"):
        entry["summary"] = True
    targets = [
        profile.removeprefix(STRUCTURE)
        for t in element.get("type", ())
        if t["code"] == "Reference"
        for profile in t.get("targetProfile", ())
    ]
    if targets and "Resource" not in targets:
        entry["targets"] = targets
    profiles = [p for t in element.get("type", ()) for p in t.get("profile", ())]
    if profiles:
        if profiles != [STRUCTURE + "SimpleQuantity"]:
            raise ValueError(f"{path}: a profile this script does not know: {profiles}")
        entry["simple"] = True
    binding = element.get("binding", {})
    if binding.get("strength") == "required":
        entry["values"] = binding["valueSet"].partition("|")[0]
    return entry


def _type_code(type_: Json) -> str:
    code: str = type_["code"]
    if not code.startswith(_SYSTEM_TYPE):
        return code
    (named,) = (e["valueUrl"] for e in type_["extension"] if e["url"] == _FHIR_TYPE)
    return str(named)
