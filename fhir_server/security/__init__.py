"""Credentials: given out, proven, checked, taken back."""
