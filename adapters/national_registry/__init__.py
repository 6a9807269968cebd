"""The national health registry."""
