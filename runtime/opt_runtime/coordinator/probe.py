"""A second source about a silent host: does its machine still answer, and is anybody there?"""

from __future__ import annotations

import socket


def word_of(address: str, timeout_s: float = 0.5) -> str:
    """What the machine itself says of the agent's absence; empty when it says nothing that proves it.

    A refused connection comes from the machine's own kernel: the port is there and the agent is not. A time-out proves
    nothing: the network between us may be cut.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout_s):
            return ""
    except ConnectionRefusedError:
        return f"the machine refuses connections to its agent at {address}"
    except OSError:
        return ""
