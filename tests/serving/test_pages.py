"""Pages: held, found again by what they hold, and reused when nobody holds them."""

from __future__ import annotations

import random

import pytest

from opt_serving.engine.pages import PagePool, page_keys
from opt_serving.settings import PAGE

pytestmark = pytest.mark.unit


def test_a_key_names_all_tokens_up_to_the_pages_end():
    tokens = list(range(3 * PAGE))
    changed = [7, *tokens[1:]]
    assert page_keys(tokens, 3) == page_keys([*tokens, 1, 2], 3)
    assert not set(page_keys(tokens, 3)) & set(page_keys(changed, 3))


def test_found_pages_are_shared_and_kept_while_one_holds_them():
    pool = PagePool(4)
    keys = page_keys(list(range(2 * PAGE)), 2)
    first = pool.take([], 3)
    assert first is not None
    for page, key in zip(first, keys, strict=False):
        pool.name(page, key)
    second = pool.take(pool.find(keys), 1)
    assert second is not None
    assert second[:2] == first[:2]
    assert pool.available == 0
    pool.give_back(first)
    assert pool.available == 1  # the third; the shared ones are held by the second
    pool.give_back(second)
    assert pool.available == 4
    assert pool.find(keys) == first[:2]


def test_too_few_pages_change_nothing():
    pool = PagePool(2)
    assert pool.take([], 3) is None
    assert pool.available == 2
    assert pool.take([], 2) is not None


def test_the_page_left_alone_longest_is_forgotten_first():
    pool = PagePool(2)
    keys = [page_keys([number] * PAGE, 1)[0] for number in range(3)]
    for key in keys[:2]:
        (page,) = pool.take([], 1) or ()
        pool.name(page, key)
        pool.give_back([page])
    pool.give_back(pool.take(pool.find(keys[:1]), 0) or [])  # used again just now
    assert pool.take([], 1) is not None
    assert pool.find(keys[1:2]) == []
    assert len(pool.find(keys[:1])) == 1


def test_pages_never_get_lost_or_doubled():
    pool, rng, held = PagePool(12), random.Random(5), []
    for _ in range(3000):
        if rng.random() < 0.5:
            keys = page_keys([rng.randrange(3)] * (3 * PAGE), 3)
            known = pool.find(keys)
            taken = pool.take(known, rng.randrange(1, 4))
            if taken is not None:
                held.append(taken)
                for page, key in zip(taken, keys, strict=False):
                    pool.name(page, key)
        elif held:
            pool.give_back(held.pop(rng.randrange(len(held))))
        in_use = {page for pages in held for page in pages}
        assert pool.available == pool.count - len(in_use)
        assert all(len(set(pages)) == len(pages) for pages in held)
