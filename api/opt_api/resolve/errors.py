"""What is wrong with a spec that parses but cannot run."""

from __future__ import annotations

from opt_api.problems import Problem, Problems


class PlanError(Problems):
    """A valid spec that cannot run, with every reason at once."""


class Findings:
    """Collects problems while the resolution goes on, so that all are told together."""

    def __init__(self) -> None:
        self._problems: list[Problem] = []

    def add(self, path: str, found: object, allowed: str, hint: str = "") -> None:
        """Note one problem; `path` is relative to the spec."""
        self._problems.append(Problem(f"spec.{path}", str(found), allowed, hint))

    def extend(self, other: Findings) -> None:
        """Take over what another collector found."""
        self._problems.extend(other._problems)

    def raise_if_any(self) -> None:
        """Stop here when something was found.

        Raises:
            PlanError: with everything found so far.
        """
        if self._problems:
            raise PlanError(self._problems)

    def __bool__(self) -> bool:
        return bool(self._problems)
