"""Acme, as an example of a receiver."""
