"""Subscribers' HTTP endpoints."""
