"""Duplicates across all sources: exact, then near."""
