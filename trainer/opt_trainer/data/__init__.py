"""Which blocks each step trains on, and how they get from the store into memory."""
