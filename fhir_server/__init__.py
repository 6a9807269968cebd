"""FHIR R4 server for personal medical assistants."""

__version__ = "0.1.0"
