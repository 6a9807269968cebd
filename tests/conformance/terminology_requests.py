"""Code systems and value sets to store, and what terminology operations answer."""

ADMINISTRATIVE = "http://hl7.org/fhir/administrative-gender"


STATUS = "http://hl7.org/fhir/ValueSet/observation-status"


UCUM = "http://unitsofmeasure.org"


def animals(unique, **others):
    return {
        "resourceType": "CodeSystem",
        "url": f"urn:{unique}",
        "version": "1",
        "name": "Animals",
        "status": "active",
        "content": "complete",
        "caseSensitive": True,
        "concept": [
            {
                "code": "cat",
                "display": "Cat",
                "definition": "Felis catus",
                "designation": [{"language": "ru", "value": "Кошка"}],
                "concept": [{"code": "lynx", "display": "Lynx"}, {"code": "manx"}],
            },
            {
                "code": "group",
                "display": "A group",
                "property": [{"code": "notSelectable", "valueBoolean": True}],
            },
            {"code": "dodo", "property": [{"code": "status", "valueCode": "retired"}]},
        ],
        **others,
    }


def value_set(unique, *include, exclude=()):
    compose = {"include": list(include), **({"exclude": list(exclude)} if exclude else {})}
    return {
        "resourceType": "ValueSet",
        "url": f"urn:{unique}:set",
        "status": "active",
        "compose": compose,
    }


def parameters(**values):
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": name.split("__")[0], name.split("__")[1]: each}
            for name, each in values.items()
        ],
    }


def outputs(response):
    assert response.status_code == 200, response.text
    return {
        each["name"]: next((v for k, v in each.items() if k.startswith("value")), None)
        for each in response.json()["parameter"]
    }


def codes(response):
    assert response.status_code == 200, response.text
    return [each["code"] for each in response.json()["expansion"].get("contains", ())]
