"""From a spec to a plan: `resolve`, `gang_sizes`, and `PlanError` with every reason why there is none."""

from opt_api.resolve.errors import PlanError
from opt_api.resolve.resolver import gang_sizes, resolve

__all__ = ["PlanError", "gang_sizes", "resolve"]
