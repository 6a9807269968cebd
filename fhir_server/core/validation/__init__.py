"""Validation: whether a resource keeps the rules of its type and profiles."""
