"""One function an interaction of the FHIR REST API; the only place that decides and stores."""
