"""Readings that come by MQTT: from a broker's topics into the store."""
