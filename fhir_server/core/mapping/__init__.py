"""Mapping: a vendor's payload becomes readings, a reading becomes FHIR."""
