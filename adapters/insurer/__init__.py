"""Insurers."""
