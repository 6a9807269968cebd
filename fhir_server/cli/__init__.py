"""The command line, `fhir-server`."""

from fhir_server.garbage import collect_rarely

# Before the commands are imported: that alone makes a million values that stay.
collect_rarely()
