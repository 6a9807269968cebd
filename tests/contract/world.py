"""Resources at random, full of what searches stumble over, and their terminology."""

import random
from decimal import Decimal

from fhir_server.core.terminology.terminology import NotLoaded, Terminology

LOINC, MDC, UCUM = "http://loinc.org", "urn:iso:std:iso:11073:10101", "http://unitsofmeasure.org"
IDS = [f"{n}" for n in range(1, 9)]


DATES = [
    "2024", "2024-03", "2024-03-05", "2024-03-05T10:00:00+03:00", "2024-03-05T10:00:00.5Z",
    "2024-03-04T21:00:00Z", "2023-12-31T23:59:59-05:00", "2024-03-05T00:00:00+03:00",
]  # fmt: skip


NUMBERS = ["120", "120.0", "119.5", "0.1", "-3", "-3.01", "0", "1000", "0.30", "1" + "0" * 20 + "1"]


UNITS = [(UCUM, "mm[Hg]", "mmHg"), (UCUM, "kPa", "kPa"), (UCUM, "g", "g"), (UCUM, "kg", "kg"),
         (None, None, "pills"), ("urn:own", "mm[Hg]", None)]  # fmt: skip


NAMES = ["Иванова", "ИВАНОВ", "Müller", "Muller-Iwanow", "O'Neil", "al", "Al Ghul", "%", "_a"]


class World:
    """Makes resources of few values, so that queries meet them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def maybe(self, make, chance=0.7):
        return make() if self.random.random() < chance else None

    def some(self, make, most=2):
        return [made for _ in range(self.random.randint(0, most)) if (made := make())] or None

    def coding(self):
        system, code = self.random.choice(
            [(LOINC, "a"), (LOINC, "b"), (MDC, "a"), (None, "a"), (MDC, "c"), (LOINC, None)]
        )
        display = self.random.choice([None, "Blood pressure", "blood glucose", "Gewicht"])
        return clean({"system": system, "code": code, "display": display})

    def concept(self):
        text = self.random.choice([None, None, "Blood test", "давление"])
        return clean({"coding": self.some(self.coding), "text": text}) or {"text": "empty"}

    def identifier(self):
        return clean(
            {
                "system": self.random.choice([None, "urn:s", "urn:t"]),
                "value": self.random.choice(["1", "2", "x|y", "A", "a"]),
                "type": self.maybe(self.concept, 0.3),
            }
        )

    def reference(self, *types):
        kind = self.random.random()
        resource_type, number = self.random.choice(types), self.random.choice(IDS)
        if kind < 0.75:
            return {"reference": f"{resource_type}/{number}"}
        if kind < 0.85:
            return {"reference": f"{resource_type}/{number}/_history/1"}
        if kind < 0.93:
            return {"reference": f"https://other.example/fhir/{resource_type}/{number}"}
        return {"identifier": self.identifier()}

    def period(self):
        start, end = sorted(self.random.sample(DATES[2:6], 2))
        return clean({"start": self.maybe(lambda: start), "end": self.maybe(lambda: end)})

    def quantity(self):
        system, code, unit = self.random.choice(UNITS)
        return clean(
            {
                "value": Decimal(self.random.choice(NUMBERS)),
                "comparator": self.maybe(lambda: self.random.choice("<>"), 0.1),
                "system": system,
                "code": code,
                "unit": unit,
            }
        )

    def observation(self):
        when = self.random.choice(["effectiveDateTime", "effectivePeriod", None])
        value = self.random.choice(["valueQuantity", "valueString", "valueCodeableConcept", None])
        makers = {
            "effectiveDateTime": lambda: self.random.choice(DATES),
            "effectivePeriod": self.period,
            "valueQuantity": self.quantity,
            "valueString": lambda: self.random.choice(NAMES),
            "valueCodeableConcept": self.concept,
        }
        return {
            "status": self.random.choice(["final", "amended"]),
            "code": self.concept(),
            "category": self.some(self.concept),
            "subject": self.maybe(lambda: self.reference("Patient", "Group")),
            "device": self.maybe(lambda: self.reference("Device")),
            "performer": self.some(lambda: self.reference("Patient", "Practitioner")),
            "identifier": self.some(self.identifier),
            "hasMember": self.some(lambda: self.reference("Observation")),
            "component": self.some(
                lambda: {"code": self.concept(), "valueQuantity": self.quantity()}
            ),
            **({when: makers[when]()} if when else {}),
            **({value: makers[value]()} if value else {}),
        }

    def patient(self):
        return {
            "text": self.maybe(self.narrative, 0.5),
            "managingOrganization": self.maybe(lambda: self.reference("Organization"), 0.5),
            "active": self.maybe(lambda: self.random.choice([True, False])),
            "identifier": self.some(self.identifier),
            "name": self.some(
                lambda: clean(
                    {
                        "family": self.maybe(lambda: self.random.choice(NAMES)),
                        "given": self.some(lambda: self.random.choice(NAMES)),
                    }
                )
            ),
            "telecom": self.some(
                lambda: {"system": self.random.choice(["phone", "email"]), "value": "1"}
            ),
            "gender": self.maybe(lambda: self.random.choice(["male", "female"])),
            "birthDate": self.maybe(lambda: self.random.choice(DATES[:3])),
            "generalPractitioner": self.some(lambda: self.reference("Practitioner")),
            "meta": self.maybe(
                lambda: {"tag": [self.coding()], "profile": ["urn:p1"], "source": "urn:src"}, 0.4
            ),
        }

    def device(self):
        return {
            "identifier": self.some(self.identifier),
            "type": self.maybe(self.concept),
            "patient": self.maybe(lambda: self.reference("Patient")),
            "url": self.maybe(lambda: self.random.choice(["http://a.example/1", "urn:a"])),
        }

    def narrative(self):
        words = self.random.choices(["Blood", "давление", "normal", "норма", "hyper-tension"], k=3)
        return {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><b>{words[0]}</b> {words[1]}'
            f"<br/>{words[2]} &lt;x&gt;</div>",
        }

    def organization(self):
        return {
            "name": self.random.choice(NAMES),
            "partOf": self.maybe(lambda: self.reference("Organization"), 0.8),
            "type": self.some(self.concept),
        }

    def list(self):
        items = [self.reference("Patient", "Observation", "Device") for _ in range(3)]
        return {"status": "current", "mode": "working", "entry": [{"item": i} for i in items]}

    def group(self):
        return {"type": "person", "actual": True, "code": self.maybe(self.concept)}

    def risk_assessment(self):
        def prediction():
            if self.random.random() < 0.5:
                return {
                    "probabilityDecimal": Decimal(self.random.choice(["0.1", "0.10", "0.3", "0"]))
                }
            return {
                "probabilityRange": clean(
                    {
                        "low": self.maybe(lambda: {"value": Decimal("0.1")}),
                        "high": self.maybe(lambda: {"value": Decimal("0.5")}),
                    }
                )
            }

        return {
            "status": "final",
            "subject": self.reference("Patient"),
            "prediction": self.some(prediction, 3),
        }

    def resource(self):
        make = self.random.choice(
            [self.observation, self.observation, self.observation, self.patient, self.patient,
             self.device, self.group, self.risk_assessment, self.organization, self.list]
        )  # fmt: skip
        name = "".join(part.capitalize() for part in make.__name__.split("_"))
        return clean({"resourceType": name, "id": self.random.choice(IDS), **make()})


GENDER = "http://hl7.org/fhir/administrative-gender"


TERMINOLOGY = Terminology(
    [
        {
            "resourceType": "CodeSystem",
            "url": LOINC,
            "content": "complete",
            "concept": [{"code": "a", "concept": [{"code": "b"}]}, {"code": "x"}],
        },
        {
            "resourceType": "ValueSet",
            "url": "urn:set:some",
            "compose": {"include": [{"system": MDC, "concept": [{"code": "a"}]}]},
        },
        {
            "resourceType": "ValueSet",
            "url": "urn:set:most",
            "compose": {
                "include": [{"system": MDC}, {"valueSet": ["urn:set:some"]}],
                "exclude": [{"system": LOINC, "concept": [{"code": "b"}]}],
            },
        },
        {
            "resourceType": "ValueSet",
            "url": "urn:set:below",
            "compose": {
                "include": [
                    {
                        "system": LOINC,
                        "filter": [{"property": "concept", "op": "is-a", "value": "a"}],
                    }
                ]
            },
        },
        {
            "resourceType": "ValueSet",
            "url": "urn:set:gender",
            "compose": {
                "include": [
                    {
                        "system": GENDER,
                        "concept": [{"code": "male"}],
                    }
                ]
            },
        },
    ],
).having(NotLoaded("", "CodeSystem", MDC), None)


TERMINOLOGY = TERMINOLOGY.having(NotLoaded("", "CodeSystem", GENDER), None)


def clean(value):
    """Without what is empty, as FHIR has it."""
    return {name: each for name, each in value.items() if each not in (None, {}, [])}
