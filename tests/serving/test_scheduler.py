"""Which tokens the next pass computes."""

from __future__ import annotations

import pytest

from opt_serving.engine.pages import PagePool
from opt_serving.engine.requests import Sampling, Sequence
from opt_serving.engine.scheduler import Scheduler
from opt_serving.settings import PAGE

pytestmark = pytest.mark.unit
CHUNK = 4 * PAGE


def scheduler(prompts: int, length: int = CHUNK) -> Scheduler:
    """With so many prompts in slots, of different tokens each."""
    made = Scheduler(PagePool(64), 8, 2 * CHUNK, CHUNK)
    for number in range(prompts):
        made.waiting.append(Sequence([number] * length, Sampling(max_tokens=2)))
    made.admit()
    return made


def decode(sequence: Sequence) -> None:
    sequence.computed = len(sequence.prompt)
    sequence.generated.append(1)


@pytest.mark.parametrize(("decoding", "in_prompts", "tokens"), [(0, 2, 4), (1, 1, 4), (1, 2, 4), (2, 1, 1), (3, 1, 1)])
def test_prompts_get_a_whole_chunk_until_more_decode_than_wait_for_a_first_token(decoding, in_prompts, tokens) -> None:
    made = scheduler(decoding + in_prompts)
    for sequence in made.running[:decoding]:
        decode(sequence)
    shares = made.plan()
    assert [share.end - share.start for share in shares[:decoding]] == [1] * decoding
    assert sum(share.end - share.start for share in shares[decoding:]) == tokens * PAGE


def test_prompts_share_a_chunk_oldest_first() -> None:
    made = scheduler(3, CHUNK // 2)
    assert [(share.sequence, share.start, share.end) for share in made.plan()] == [
        (made.running[0], 0, CHUNK // 2),
        (made.running[1], 0, CHUNK // 2),
    ]
