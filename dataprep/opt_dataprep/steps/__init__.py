"""Steps on one document at a time: decode, normalise, judge."""

from opt_dataprep.steps.cleaning import Cleaned, Cleaner

__all__ = ["Cleaned", "Cleaner"]
