"""Storage: one protocol, two stores."""
