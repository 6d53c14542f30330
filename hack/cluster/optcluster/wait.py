"""Waiting for a condition, with a deadline and a message that helps."""

import time
from collections.abc import Callable
from typing import TypeVar

from optcluster.api import ApiError

Found = TypeVar("Found")


class NotInTimeError(AssertionError):
    """The deadline passed; the message says what was waited for, what was last seen and what else is known."""


def wait_for(
    condition: Callable[[], Found],
    deadline_s: float,
    message: str,
    evidence: Callable[[], str] | None = None,
    every_s: float = 0.1,
) -> Found:
    """Asks `condition` until it gives something true, and returns that.

    A condition that raises `OSError`, an API error or `LookupError` counts as not yet true: servers come and go.

    Args:
        condition: asked again and again; what it last gave (or raised) goes into the failure message.
        deadline_s: seconds to wait at most.
        message: what is waited for, as in "node-2 NotReady".
        evidence: asked once on failure for whatever explains it: events, conditions, the end of a log.
        every_s: seconds between two questions.

    Raises:
        NotInTimeError: the deadline passed.
    """
    started = time.monotonic()
    while True:
        try:
            last: object = (found := condition())
            if found:
                return found
        except (OSError, ApiError, LookupError) as error:
            last = error
        if time.monotonic() - started > deadline_s:
            raise NotInTimeError(_explain(message, deadline_s, last, evidence))
        time.sleep(every_s)


def _explain(message: str, deadline_s: float, last: object, evidence: Callable[[], str] | None) -> str:
    lines = [f"not within {deadline_s:g} s: {message}", f"last seen: {last!r}"]
    if evidence:
        try:
            lines.append(evidence())
        except Exception as error:  # noqa: BLE001 - the failure to explain must not hide the failure
            lines.append(f"(no evidence: {error!r})")
    return "\n".join(lines)
