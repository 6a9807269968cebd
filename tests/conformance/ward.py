"""A ward: patients with devices, whose readings are sent to a running server."""

import json
from itertools import count

import requests

SERIAL = "https://maker.example/serial"


MRN = "https://clinic.example/mrn"


NUMBERS = count(1)


class Ward:
    """Patients and devices of one test, made through FHIR as any client would."""

    def __init__(self, root):
        self.root = root
        self.http = requests.Session()

    def create(self, resource):
        answer = self.http.post(f"{self.root}/fhir/{resource['resourceType']}", json=resource)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def put(self, resource):
        answer = self.http.put(
            f"{self.root}/fhir/{resource['resourceType']}/{resource['id']}", json=resource
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, reference):
        answer = self.http.get(f"{self.root}/fhir/{reference}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def search(self, query):
        bundle = self.get(query)
        return [entry["resource"] for entry in bundle.get("entry", ())]

    def patient(self):
        mrn = f"mrn-{next(NUMBERS)}"
        identifier = [{"system": MRN, "value": mrn}]
        return self.create({"resourceType": "Patient", "identifier": identifier}), mrn

    def device(self, serial=None, **more):
        serial = serial or f"dev-{next(NUMBERS)}"
        identifier = [{"system": SERIAL, "value": serial}]
        return self.create({"resourceType": "Device", "identifier": identifier, **more}), serial

    def assign(self, device, patient, **timing):
        return self.create(
            {
                "resourceType": "DeviceUseStatement",
                "status": "active",
                "subject": {"reference": f"Patient/{patient['id']}"},
                "device": {"reference": f"Device/{device['id']}"},
                **(timing or {"timingPeriod": {"start": "2020-01-01"}}),
            }
        )

    def kit(self):
        """A device that a patient has; its serial and theirs."""
        patient, mrn = self.patient()
        device, serial = self.device()
        self.assign(device, patient)
        return patient, mrn, serial

    def send(self, body, mapping="iot-hub", headers=(), **params):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(
            f"{self.root}/readings/{mapping}",
            data=data,
            params=params,
            headers={"Content-Type": "application/json", **dict(headers)},
        )

    def verdicts(self, body, **more):
        answer = self.send(body, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()["results"]

    def verdict(self, body, **more):
        (result,) = self.verdicts(body, **more)
        return result

    def send_lines(self, lines, headers=(), **params):
        data = b"\n".join(
            line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines
        )
        answer = self.send(
            data, headers={"Content-Type": "application/x-ndjson", **dict(headers)}, **params
        )
        assert answer.status_code == 200, answer.text
        return answer.json()


def pulse(serial, time="2024-03-10T08:00:00Z", rate=66, **more):
    return {
        "type": "Heart Rate",
        "time": time,
        "device": serial,
        "values": {"beatsPerMinute": rate},
        **more,
    }
