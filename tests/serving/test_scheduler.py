"""Which tokens the next pass computes."""

from __future__ import annotations

import pytest

from opt_serving.engine.pages import PagePool
from opt_serving.engine.requests import Sampling, Sequence
from opt_serving.engine.scheduler import Scheduler, Share
from opt_serving.settings import PAGE

pytestmark = pytest.mark.unit
CHUNK, CHUNK_S = 4 * PAGE, 0.5


def scheduler(prompts: int, length: int = CHUNK) -> Scheduler:
    """With so many prompts in slots, of different tokens each."""
    made = Scheduler(PagePool(64), 8, 2 * CHUNK, CHUNK, CHUNK_S)
    for number in range(prompts):
        made.waiting.append(Sequence([number] * length, Sampling(max_tokens=2)))
    made.admit()
    return made


def decode(sequence: Sequence) -> None:
    sequence.computed = len(sequence.prompt)
    sequence.generated.append(1)


@pytest.mark.parametrize(("decoding", "in_prompts"), [(0, 2), (1, 1), (1, 2), (2, 1), (7, 1)])
def test_each_that_decodes_gets_its_token_and_prompts_get_a_chunk(decoding, in_prompts) -> None:
    made = scheduler(decoding + in_prompts)
    for sequence in made.running[:decoding]:
        decode(sequence)
    shares = made.plan()
    assert [share.end - share.start for share in shares[:decoding]] == [1] * decoding
    assert sum(share.end - share.start for share in shares[decoding:]) == CHUNK


@pytest.mark.parametrize(
    ("token_s", "tokens"),
    [(CHUNK_S / CHUNK / 2, CHUNK), (CHUNK_S / 100, 100), (CHUNK_S, 64)],
    ids=["fast", "slow", "slower"],
)
def test_those_that_decode_wait_no_longer_than_stated_for_prompts(token_s: float, tokens: int) -> None:
    made = scheduler(3)
    decode(made.running[0])
    made.took([Share(made.running[1], 0, CHUNK)], token_s * CHUNK)
    assert sum(share.end - share.start for share in made.plan()[1:]) == tokens


def test_prompts_alone_take_whole_chunks_however_slow_they_are() -> None:
    made = scheduler(2)
    made.took([Share(made.running[1], 0, CHUNK)], 1000.0)
    assert [share.end - share.start for share in made.plan()] == [CHUNK]


def test_a_pass_that_mostly_decodes_says_nothing_of_prompts() -> None:
    made = scheduler(3)
    decode(made.running[0])
    made.took([Share(made.running[0], CHUNK, CHUNK + 1)] * 200 + [Share(made.running[1], 0, 100)], 1000.0)
    made.took([Share(made.running[1], 0, 63)], 1000.0)
    assert sum(share.end - share.start for share in made.plan()[1:]) == CHUNK


def test_prompts_share_a_chunk_oldest_first() -> None:
    made = scheduler(3, CHUNK // 2)
    assert [(share.sequence, share.start, share.end) for share in made.plan()] == [
        (made.running[0], 0, CHUNK // 2),
        (made.running[1], 0, CHUNK // 2),
    ]
