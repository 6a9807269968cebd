"""Hospitals' FHIR servers."""
