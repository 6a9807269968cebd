"""Search: parameters, queries, index entries, and whether one matches the other.

https://hl7.org/fhir/R4/search.html
"""
