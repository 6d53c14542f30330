"""Trying again: how often, and after what wait."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from opt_store.errors import StoreError
from opt_store.s3.faults import describe, judge
from opt_store.settings import StoreSettings

T = TypeVar("T")
_log = logging.getLogger(__name__)


def wait_before(attempt: int, settings: StoreSettings, draw: float) -> float:
    """Return the seconds to wait before attempt number `attempt` (the second is 1).

    "Full jitter": drawn evenly between nothing and a limit that doubles (M. Brooker, "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015).

    Args:
        attempt: At least 1.
        settings: First and highest limit.
        draw: Random, from 0 to 1.
    """
    return draw * min(settings.backoff_limit_s, settings.backoff_s * 2.0 ** (attempt - 1))


def again(what: str, settings: StoreSettings, act: Callable[[int], T]) -> T:
    """Call `act` with the number of the attempt until it succeeds, or its fault is final, or attempts run out.

    Raises:
        StoreError: Of the class that the fault stands for. The fault itself is not chained to it: its frames hold the
            request's headers, and a log that shows variables would show a session token.
    """
    for attempt in range(settings.attempts):
        try:
            return act(attempt)
        except StoreError:
            raise
        except Exception as fault:
            verdict = judge(fault)
            if verdict is None:
                raise
            found = describe(fault)
            last = not verdict.retry or attempt + 1 == settings.attempts
        if last:
            tried = f" ({attempt + 1} attempts)" if attempt else ""
            raise verdict.kind(f"{what}: {found}{tried}; {verdict.advice}")
        _log.debug("%s: %s; trying again", what, found)
        time.sleep(wait_before(attempt + 1, settings, random.random()))
    raise AssertionError("attempts is at least 1")
