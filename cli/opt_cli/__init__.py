"""optctl: what a person types."""
