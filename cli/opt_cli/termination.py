"""The last words of a container, which Kubernetes hands on in the pod's status."""

from pathlib import Path

TERMINATION_LOG = Path("/dev/termination-log")


def leave(text: str) -> None:
    """On standard output and, in a pod, as the termination message (4096 bytes at most)."""
    print(text, flush=True)
    if TERMINATION_LOG.exists():
        TERMINATION_LOG.write_text(text)
