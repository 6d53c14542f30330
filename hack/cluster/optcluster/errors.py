"""How this package speaks to the person at the keyboard: progress on stderr, and one error for what can be mended."""

import sys


class ClusterError(Exception):
    """Something the person can act on: the message says what was found and what to do."""


def say(message: str) -> None:
    """Tells what goes on; stdout is left to results."""
    print(f"cluster: {message}", file=sys.stderr, flush=True)
