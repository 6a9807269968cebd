"""Who is asking and what they were granted, as plain values."""
