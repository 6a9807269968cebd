"""Who is who at which recipient: a store of keys, apart from the patients' data."""
