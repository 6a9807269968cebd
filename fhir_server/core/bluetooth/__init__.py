"""Bluetooth's health characteristics, bytes to plain values; the one door is `characteristic`."""
