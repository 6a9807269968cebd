"""Who may come in, kept apart from the patients: clients, accounts, gateways, keys."""
