"""Requests that know FHIR and mean harm: real ones, bent in one or more places."""

import copy
import json
import random
from typing import NamedTuple
from urllib.parse import quote

from tests.conformance import fuzz_examples

TYPES = ["Patient", "Observation", "Device", "Task", "CarePlan", "Subscription", "Bundle", "Basic",
         "Binary", "SearchParameter", "StructureDefinition", "ValueSet", "Consent",
         "CodeSystem", "ConceptMap", "NoSuchType", "patient", ""]  # fmt: skip
IDS = ["1", "none-such", "a" * 64, "a" * 65, "..", "%2e%2e", "_history", "$meta", "é", "%00", "*"]
OPERATIONS = ["$validate", "$everything", "$lastn", "$stats", "$meta", "$meta-add", "$meta-delete",
              "$expand", "$validate-code", "$lookup", "$translate", "$subsumes", "$closure",
              "$place", "$apply", "$status", "$events", "$none", "$"]  # fmt: skip
PARAMETERS = ["_id", "_lastUpdated", "_tag", "_profile", "_has:Observation:patient:code", "_sort",
              "_count", "_page", "_summary", "_elements", "_include", "_revinclude", "_total",
              "_filter", "_text", "_content", "_list", "_type", "_since", "_at", "_format",
              "_pretty", "_contained", "_query", "name", "family:exact", "birthdate",
              "identifier", "identifier:of-type", "gender:not", "code", "code:in", "code:below",
              "subject", "subject:Patient.name", "patient.identifier", "date", "value-quantity",
              "combo-code-value-quantity", "component-code-value-quantity", "status:missing",
              "device", "category", "url:below", "max", "start", "end", "system", "filter",
              "statistic", "", ":", "a[b]", "name:text:exact"]  # fmt: skip
VALUES = ["x", "", ",", "|", "$", "\\", "\\,", "1", "-1", "1e400", "-1e-400", "NaN", "0x1", "true",
          "2024", "ge2024-02-30", "eb2024-01-01T24:00:00Z", "sa0000", "9999-12-31T23:59:59.999+14:00",
          "ap10|http://unitsofmeasure.org|mm[Hg]", "5.4|http://unitsofmeasure.org|m.m.m/(s",
          "http://loinc.org|8867-4", "http://loinc.org|8867-4$gt60", "Patient/1", "Patient/1/_history/1",
          "http://x/" + "y" * 2_000, "Observation:subject", "Patient:organization:Organization", "*",
          "-date,_id,name", "average,count", "name eq \"x\" and (gender ne male)", "(((((", "a" * 5_000,
          "\x00", "\ud7ff\u202e", "😀", "' OR 1=1 --", "{\"$gt\":\"\"}", "٣", "01", "9" * 400]  # fmt: skip
ODD = [None, True, False, 0, -1, 10**400, 1.5, "", " ", "x", [], {}, [[]], [None], {"a": None},
       "\x00", "😀" * 100, "a" * 20_000, {"reference": "#"}, {"reference": "urn:uuid:x"},
       {"resourceType": "Patient"}, {"resourceType": []}, ["x"] * 300, {"extension": [{}]},
       "9999-12-31T23:59:60Z", "<div><script/></div>", {"coding": [{"code": 1}]}]  # fmt: skip
HEADERS = {
    "Accept": ["application/fhir+json", "application/fhir+xml", "text/turtle", "*/*;q=0", ";;", "é"],
    "Prefer": ["return=minimal", "return=OperationOutcome", "handling=strict", "respond-async", "=;="],
    "If-Match": ['W/"1"', 'W/"x"', "*", '"', 'W/"99999999999999999999"', ""],
    "If-None-Match": ['W/"1"', "*", ","],
    "If-None-Exist": ["identifier=x", "", "_id=1&_id=2", "a=%ff", "?"],
    "If-Modified-Since": ["Sat, 01 Jan 2022 00:00:00 GMT", "yesterday", "Sat, 99 Jan 0000 99:99:99 GMT"],
    "Content-Encoding": ["gzip", "br", "identity"],
    "X-Request-Id": ["a", "a b", "x" * 300],
    "X-Forwarded-Host": ["evil.example", "[::", ""],
    "Range": ["bytes=0-"],
}  # fmt: skip
MEDIA_TYPES = ["application/fhir+json"] * 6 + ["application/json", "application/fhir+xml",
               "application/json-patch+json", "application/merge-patch+json", "text/plain", "",
               "application/x-www-form-urlencoded", "application/x-ndjson"]  # fmt: skip
PATCHES = [
    [{"op": "add", "path": "/name/-", "value": {"family": "x"}}],
    [{"op": "copy", "from": "", "path": "/extension"}] * 30,
    [{"op": "test", "path": "/~2", "value": 1}],
    [{"op": "remove", "path": "/resourceType"}],
    [{"op": "move", "from": "/name", "path": "/name/0"}],
    {"name": None, "resourceType": "Device"},
    {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
        {"name": "type", "valueCode": "replace"}, {"name": "path", "valueString": "Patient.name.where(("},
        {"name": "value", "valueString": "x"}]}]},
]  # fmt: skip
MAPPINGS = ["ihealth", "omron", "withings", "iot-hub", "cgm", "bluetooth", "none-such", ".."]


class Wish(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def make(chance: random.Random) -> Wish:
    """One request: half of them mean what they ask, so that they get further in."""
    return _likely(chance) if chance.random() < 0.5 else _wild(chance)


def _likely(chance: random.Random) -> Wish:
    example = copy.deepcopy(chance.choice(fuzz_examples.everything()))
    resource_type, resource_id = example["resourceType"], chance.choice(["1", "2", "3"])
    headers = {}
    if chance.random() < 0.1:
        name = chance.choice(list(HEADERS))
        headers[name] = chance.choice(HEADERS[name]).encode().decode("latin-1")
    kind = chance.random()
    if kind < 0.4:
        names = [
            chance.choice(PARAMETERS)
            if chance.random() < 0.4
            else fuzz_examples.parameter(chance, resource_type)
            for _ in range(chance.choice([1, 1, 2]))
        ]
        values = chance.choices(VALUES, k=len(names))
        query = "&".join(f"{quote(n, safe=':[].')}={quote(v)}" for n, v in zip(names, values))  # noqa: B905
        path = chance.choice([f"{resource_type}?", f"{resource_type}/_history?", "Observation?",
                              "Patient?", f"Patient/{resource_id}/$everything?",
                              "Observation/$lastn?", "Observation/$stats?"])  # fmt: skip
        return Wish("GET", f"/fhir/{path}{query}", headers, b"")
    if kind < 0.5:
        ending = chance.choice(["", "/_history", "/_history/1", "/$meta"])
        return Wish("GET", f"/fhir/{resource_type}/{resource_id}{ending}", headers, b"")
    headers["Content-Type"] = "application/fhir+json"
    for _ in range(chance.choice([0, 0, 0, 1, 1, 2])):
        _bend(chance, example)
    if kind < 0.6:
        value = _bundle(chance)
        return Wish("POST", "/fhir", headers, json.dumps(value).encode())
    if kind < 0.65:
        headers["Content-Type"] = chance.choice(
            ["application/json-patch+json", "application/fhir+json"]
        )
        patch = json.dumps(chance.choice(PATCHES)).encode()
        return Wish("PATCH", f"/fhir/{resource_type}/{resource_id}", headers, patch)
    if kind < 0.8:
        example.pop("id", None)
        return Wish("POST", f"/fhir/{resource_type}", headers, json.dumps(example).encode())
    if kind < 0.85:
        operation = chance.choice(
            ["$validate", "$expand", "$validate-code", "$translate", "$lookup"]
        )
        return Wish(
            "POST", f"/fhir/{resource_type}/{operation}", headers, json.dumps(example).encode()
        )
    example["id"] = resource_id
    return Wish(
        "PUT", f"/fhir/{resource_type}/{resource_id}", headers, json.dumps(example).encode()
    )


def _wild(chance: random.Random) -> Wish:
    method = chance.choice(["GET", "GET", "GET", "POST", "POST", "PUT", "PATCH", "DELETE", "HEAD"])
    headers = {
        name: chance.choice(values).encode().decode("latin-1")
        for name, values in HEADERS.items()
        if chance.random() < 0.08
    }
    path = _path(chance)
    if chance.random() < 0.6:
        path += "?" + _query(chance)
    body = b""
    if method in ("POST", "PUT", "PATCH"):
        headers["Content-Type"] = chance.choice(MEDIA_TYPES)
        body = _body(chance, method)
    return Wish(method, path, headers, body)


def _path(chance: random.Random) -> str:
    kind = chance.random()
    resource_type, resource_id = chance.choice(TYPES), chance.choice(IDS)
    operation = chance.choice(OPERATIONS)
    if kind < 0.08:
        return f"/readings/{chance.choice(MAPPINGS)}"
    if kind < 0.12:
        return chance.choice(["/health/live", "/metrics", "/openapi.json", "/docs", "/quarantine",
                              "/enrolments", "/views", "/fhir", "/fhir/", "//", "/fhir/metadata"])  # fmt: skip
    shapes = [f"{resource_type}", f"{resource_type}/{resource_id}", f"{resource_type}/_search",
              f"{resource_type}/_history", f"{resource_type}/{resource_id}/_history",
              f"{resource_type}/{resource_id}/_history/{chance.choice(['1', '0', 'x', '9' * 30])}",
              f"{resource_type}/{operation}", f"{resource_type}/{resource_id}/{operation}", operation,
              f"Patient/{resource_id}/{resource_type}", f"Patient/{resource_id}/*", "_history", "",
              f"{resource_type}/{resource_id}/{operation}/{resource_id}"]  # fmt: skip
    return "/fhir/" + chance.choice(shapes)


def _query(chance: random.Random) -> str:
    pairs = []
    for _ in range(chance.choice([1, 1, 2, 3, 20])):
        value = chance.choice(VALUES)
        if chance.random() < 0.2:
            value = ",".join(chance.choices(VALUES, k=3))
        name = chance.choice(PARAMETERS)
        text = quote(value) if chance.random() < 0.95 else "%ff%zz"
        pairs.append(f"{quote(name, safe=':[].')}={text}")
    return "&".join(pairs)


def _body(chance: random.Random, method: str) -> bytes:
    if chance.random() < 0.06:
        return chance.choice(
            [b"", b"{", b"\xff\xfe", b"null", b"[]", b"0", b'"', b"<a/>", b"\x1f\x8b"]
        )
    if method == "PATCH":
        value = copy.deepcopy(chance.choice(PATCHES))
    else:
        value = copy.deepcopy(chance.choice(fuzz_examples.everything()))
        if chance.random() < 0.25:
            value = _bundle(chance)
        elif chance.random() < 0.15:
            value = {"resourceType": "Parameters", "parameter": [
                {"name": chance.choice(["resource", "url", "code", "coding", "meta", "x"]),
                 chance.choice(["resource", "valueUri", "valueCode", "valueString", "part"]): value}]}  # fmt: skip
    for _ in range(chance.choice([0, 1, 1, 2, 8])):
        _bend(chance, value)
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5)
    if chance.random() < 0.03:
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(["", "}", '"', "\x00", "1e999999999"]) + text[at + 1 :]
    return text.encode("utf-8", "surrogatepass")


def _bundle(chance: random.Random) -> dict:
    entries = []
    for _ in range(chance.choice([0, 1, 3, 10])):
        method = chance.choice(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"])
        url = _path(chance).removeprefix("/fhir/") + (
            "?" + _query(chance) if chance.random() < 0.4 else ""
        )
        entry = {"request": {"method": method, "url": url},
                 "fullUrl": chance.choice(["urn:uuid:6f2a8a4e-4c9b-4d0d-9f0e-0a8d0d7d4b11", "x", ""])}  # fmt: skip
        if method in ("POST", "PUT", "PATCH"):
            entry["resource"] = copy.deepcopy(chance.choice(fuzz_examples.everything()))
        entries.append(entry)
    return {"resourceType": "Bundle", "type": chance.choice(["batch", "transaction", "history"]),
            "entry": entries}  # fmt: skip


def _bend(chance: random.Random, value: object) -> None:
    """Something somewhere in `value` becomes odd, double, or is gone."""
    while True:
        if isinstance(value, dict) and value:
            key: object = chance.choice(list(value))
        elif isinstance(value, list) and value:
            key = chance.randrange(len(value))
        else:
            return
        inner = value[key]
        if isinstance(inner, dict | list) and inner and chance.random() < 0.75:
            value = inner
            continue
        how = chance.random()
        if how < 0.6:
            value[key] = copy.deepcopy(chance.choice(ODD))
        elif how < 0.75:
            del value[key]
        elif how < 0.9 and isinstance(value, dict):
            value[chance.choice(["x", "_id", "extension", "contained", "resourceType", "text"])] = (
                inner
            )
        else:
            value[key] = [copy.deepcopy(inner)] * 3
        return
