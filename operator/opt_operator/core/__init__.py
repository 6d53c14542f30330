"""The pure half: what is seen goes in, what shall be done comes out. No clock, no network, no randomness."""
