"""What one gang of workers does between a start and a stop."""

import os

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
"""Huge pages for torch's tensors on the CPU: a step makes and drops hundreds of MB of them, which is a hundred
thousand page faults otherwise. torch reads it at its first large tensor, so it is set before any."""
