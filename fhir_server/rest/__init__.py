"""HTTP: routes, negotiation, responses."""
