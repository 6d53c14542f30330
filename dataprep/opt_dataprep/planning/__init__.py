"""From a spec to a plan: which objects there are and which parts they are read in."""

from opt_dataprep.planning.plan import make_plan

__all__ = ["make_plan"]
