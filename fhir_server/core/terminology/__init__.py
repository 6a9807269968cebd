"""Terminology: code systems, and the value sets that are made of them."""
