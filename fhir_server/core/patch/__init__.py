"""Patches: how a resource is changed without being sent whole.

https://hl7.org/fhir/R4/http.html#patch
"""
