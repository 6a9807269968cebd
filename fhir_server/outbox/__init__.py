"""Delivery: committed versions on their way to sinks, at least once, in order."""
