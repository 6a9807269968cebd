"""HL7 version 2 messages that devices' hubs send; the one door is `observation_report`."""
