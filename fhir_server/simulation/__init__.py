"""Simulated patients: payloads as their devices send them, and what must become of each."""
