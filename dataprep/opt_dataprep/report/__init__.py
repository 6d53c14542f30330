"""The report of a data set: one HTML page that needs nothing beside it."""

from opt_dataprep.report.report_stage import REPORT

__all__ = ["REPORT"]
