"""Bundles to send, and what their answers say."""

URN = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e30094{:04x}"


PATIENT = {"resourceType": "Patient", "gender": "female"}


def entry(method, url, resource=None, full_url=None, **request):
    made = {"request": {"method": method, "url": url, **request}}
    if resource is not None:
        made["resource"] = resource
    if full_url is not None:
        made["fullUrl"] = full_url
    return made


def bundle(kind, *entries):
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def observation(subject, **more):
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": subject},
        **more,
    }


def patient(value, **more):
    return {**PATIENT, "identifier": [{"system": "urn:s", "value": value}], **more}


def statuses(entries):
    return [int(e["response"]["status"][:3]) for e in entries]


def key_of(answer):
    return "/".join(answer["response"]["location"].split("/")[-4:-2])
