"""What tests of exports share: one asked for, waited for, and fetched."""

import json
import time

ASYNC = {"Prefer": "respond-async"}


class Exports:
    """Of one who asks by `ask(method, path, json=None, headers={})`."""

    def __init__(self, ask):
        self.ask = ask

    def begin(self, path, json=None, headers=ASYNC):
        """The address of the export's status."""
        answer = self.ask("GET" if json is None else "POST", path, json=json, headers=headers)
        assert answer.status_code == 202, answer.text
        return answer.headers["Content-Location"]

    def wait(self, status, seconds=30):
        """What is told when it is done."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.ask("GET", status)
            if answer.status_code not in (202, 429):
                return answer
            assert time.monotonic() < deadline, answer.headers
            time.sleep(0.15 if answer.status_code == 202 else 1)

    def run(self, path, json=None, headers=ASYNC):
        """The manifest of an export that succeeds."""
        answer = self.wait(self.begin(path, json, headers))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def lines(self, manifest, kind="output"):
        """What all files of a kind hold."""
        found = []
        for each in manifest[kind]:
            answer = self.ask("GET", each["url"], headers={"Accept": "application/fhir+ndjson"})
            assert answer.status_code == 200, answer.text
            assert answer.headers["Content-Type"] == "application/fhir+ndjson"
            resources = [json.loads(line) for line in answer.text.splitlines()]
            assert {resource["resourceType"] for resource in resources} == {each["type"]}
            assert len(resources) == each["count"]
            found += resources
        return found

    def keys(self, manifest):
        return sorted(f"{each['resourceType']}/{each['id']}" for each in self.lines(manifest))

    def deleted(self, manifest):
        entries = [entry for each in self.lines(manifest, "deleted") for entry in each["entry"]]
        assert {entry["request"]["method"] for entry in entries} <= {"DELETE"}
        return sorted(entry["request"]["url"] for entry in entries)
