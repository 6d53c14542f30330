"""What workers are started with."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from opt_runtime.agent.workers import KEEP_MEMORY

pytestmark = pytest.mark.integration
_ELSEWHERE = """
import torch
kept, elsewhere = [], 0
for number in range(32):
    kept.append(torch.empty(50_000 + 64 * number))  # blocks begin at another place within a page
    first = torch.empty(8_000_000).data_ptr()
    elsewhere += torch.empty(8_000_000).data_ptr() != first
print(elsewhere)
"""


def test_a_block_is_found_again_where_it_was():
    environment = {**os.environ, "THP_MEM_ALLOC_ENABLE": "1", **KEEP_MEMORY}
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE], env=environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == 0
