"""Bulk exports: what is asked for, and how far it has come."""
