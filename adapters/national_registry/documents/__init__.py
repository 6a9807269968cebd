"""Registering documents: care plans become signed CDA files, and the registry fetches them."""
