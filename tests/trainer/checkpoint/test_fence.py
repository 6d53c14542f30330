"""Only the newest attempt publishes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from opt_api.documents.keys import fence_key
from opt_api.documents.manifests import AttemptFence
from opt_store import open_store
from opt_trainer.checkpoint import fence
from opt_trainer.checkpoint.errors import Fenced

pytestmark = pytest.mark.unit


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path.as_uri())


def test_the_number_only_rises(store):
    fence.hold(store, "run", 2)
    fence.hold(store, "run", 2)
    fence.hold(store, "run", 5)
    with pytest.raises(Fenced, match="this is attempt 2, attempt 5 has begun"):
        fence.hold(store, "run", 2)
    assert AttemptFence.from_bytes(store.get(fence_key("run"))).attempt == 5


def test_rivals_at_once_leave_the_highest(store):
    def claim(attempt: int) -> bool:
        try:
            fence.hold(store, "run", attempt)
        except Fenced:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(claim, range(8)))
    assert held[7]
    assert AttemptFence.from_bytes(store.get(fence_key("run"))).attempt == 7
