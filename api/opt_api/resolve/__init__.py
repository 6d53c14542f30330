"""From a spec to a plan: `resolve`, and `PlanError` with every reason why there is none."""

from opt_api.resolve.errors import PlanError
from opt_api.resolve.resolver import resolve

__all__ = ["PlanError", "resolve"]
