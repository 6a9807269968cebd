"""The pure core: FHIR values in, FHIR values out; no sockets, files, clock or chance."""
