"""Adapters: one package an outside party."""
