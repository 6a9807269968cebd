"""Exports while they are made and fetched, kept apart from the resources."""
