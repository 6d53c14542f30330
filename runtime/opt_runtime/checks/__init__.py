"""Burn-in: what a machine can do under load, measured before it may train."""
