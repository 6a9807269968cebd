"""Another terminology server: asked for what is not known here."""
