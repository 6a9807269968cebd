"""The part of FHIRPath that search parameters use, compiled to Python.

https://hl7.org/fhir/R4/fhirpath.html
"""
