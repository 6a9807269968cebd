"""Monitoring: who has which device, what was prescribed, what is due."""
