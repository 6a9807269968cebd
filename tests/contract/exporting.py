"""A store with exports, as contract tests drive it."""

import json
import zlib
from dataclasses import replace

from fhir_server.core.bulk import job as export_job
from fhir_server.new_id import new_id
from fhir_server.operations import export
from fhir_server.operations.export_steps import ExportLimits, ExportSteps
from fhir_server.operations.keep_exports import Exporter
from fhir_server.store.exports.open import open_export_store
from tests.contract.access import Doors

SMALL = ExportLimits(page=2, resources=3, window=3)


class Exporting:
    """A store with exports, and processes that work at them."""

    def __init__(self, driver, indexer, url):
        doors = Doors(driver, indexer)
        self.driver = driver
        self.store = open_export_store(None, url)
        self.context = replace(doors.base, exports=self.store, new_id=new_id)
        self.authorizer = doors.authorizer

    def exporter(self, limits=SMALL, steps=ExportSteps):
        made = steps(self.driver.store, lambda: self.context, self.authorizer, None, limits)
        return Exporter(self.store, made, self.driver.clock, new_id())

    def begin(self, query="_type=Patient,Observation", level="system", ctx=None):
        params = tuple(pair.split("=", 1) for pair in query.split("&") if pair)
        return self.driver.run(
            export.kick_off(
                ctx or self.context, level, None, params, "http://a.example/fhir/$export",
                is_lenient=False, is_posted=False,
            )
        )  # fmt: skip

    def job(self, name):
        return export_job.parse(self.store.find(name).text)

    def run(self, name, exporter=None):
        """The job, when it is over."""
        exporter = exporter or self.exporter()
        while self.job(name).state == "waiting":
            assert self.driver.run(exporter.work())
        return self.job(name)

    def lines(self, name, kind="output"):
        return [
            json.loads(line)
            for file in self.job(name).files
            if file.kind == kind
            for line in self.text(name, file.name).splitlines()
        ]

    def text(self, name, file):
        whole = b"".join(self.store.portions(name, file))
        return zlib.decompress(whole, 16 + zlib.MAX_WBITS)

    def keys(self, name):
        return sorted(f"{each['resourceType']}/{each['id']}" for each in self.lines(name))

    def deleted(self, name):
        bundles = self.lines(name, "deleted")
        return [entry["request"]["url"] for each in bundles for entry in each["entry"]]
