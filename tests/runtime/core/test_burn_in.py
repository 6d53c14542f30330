"""What a host must reach beside its peers."""

from dataclasses import replace

import pytest

from opt_api.training.resilience import HostChecks
from opt_runtime.core.burn_in import Reached, refusal

pytestmark = pytest.mark.unit
GOOD = Reached(matmul=100e9, memory=10e9, disk_bytes_free=10**10, pair=500e6)
PEERS = [GOOD, replace(GOOD, matmul=110e9), replace(GOOD, pair=None)]


@pytest.mark.parametrize(
    ("reached", "word"),
    [
        (GOOD, ""),
        (replace(GOOD, matmul=79e9), "matmul: 79 GFLOP/s, below 0.8 x its peers' median 100 GFLOP/s"),
        (replace(GOOD, memory=6e9), "memory: 6 GB/s"),
        (replace(GOOD, pair=100e6), "pair: 100 MB/s"),
        (replace(GOOD, pair=None), ""),
        (replace(GOOD, matmul=1.0, shared=True), ""),
        (replace(GOOD, disk_bytes_free=10, shared=True), "disk: 10 bytes free"),
        (replace(GOOD, failure="WrongResult", shared=True), "failed under load: WrongResult"),
    ],
)
def test_who_may_train(reached: Reached, word: str) -> None:
    found = refusal(reached, PEERS, HostChecks())
    assert word in found
    assert bool(found) == bool(word)


def test_who_is_alone_is_held_against_nobody() -> None:
    assert refusal(replace(GOOD, matmul=1.0), [], HostChecks()) == ""
