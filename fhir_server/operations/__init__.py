"""Operations: what FHIR marks with `$`, and what this server adds."""
