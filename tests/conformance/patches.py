"""Patches in their formats, and how they are sent."""

import json

JSON_PATCH = "application/json-patch+json"


MERGE_PATCH = "application/merge-patch+json"


FHIR_JSON = "application/fhir+json"


def path_of(resource):
    return f"{resource['resourceType']}/{resource['id']}"


def patch(client, path, body, content_type=JSON_PATCH, **headers):
    headers = {"Content-Type": content_type, **headers}
    data = body if isinstance(body, bytes | str) else json.dumps(body)
    return client.send("PATCH", path, data=data, headers=headers)


def fhirpath(kind, path, **parts):
    said = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
    said += [{"name": name, **value} for name, value in parts.items()]
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": "operation", "part": said}],
    }


REPLACE = [{"op": "replace", "path": "/gender", "value": "male"}]


SAME = [{"op": "replace", "path": "/gender", "value": "female"}]
