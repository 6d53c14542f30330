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


@pytest.mark.parametrize(
    ("decoding", "in_prompts", "part"),
    [(0, 2, 1), (1, 1, 1), (1, 2, 1), (2, 1, 1 / 2), (4, 3, 3 / 4), (4, 1, 1 / 4), (7, 1, 1 / 4)],
)
def test_a_chunk_is_as_much_smaller_as_prompts_are_fewer_than_those_that_decode(decoding, in_prompts, part) -> None:
    made = scheduler(decoding + in_prompts)
    for sequence in made.running[:decoding]:
        decode(sequence)
    shares = made.plan()
    assert [share.end - share.start for share in shares[:decoding]] == [1] * decoding
    assert sum(share.end - share.start for share in shares[decoding:]) == part * CHUNK


def test_prompts_share_a_chunk_oldest_first() -> None:
    made = scheduler(3, CHUNK // 2)
    assert [(share.sequence, share.start, share.end) for share in made.plan()] == [
        (made.running[0], 0, CHUNK // 2),
        (made.running[1], 0, CHUNK // 2),
    ]
