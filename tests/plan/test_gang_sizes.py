"""Smaller gangs of the same run: which there are, and that they are the same run."""

from __future__ import annotations

import pytest

from opt_api.resolve import PlanError, gang_sizes, resolve
from support.trainings import training

pytestmark = pytest.mark.unit

EIGHT = {"hosts": 8, "devicesPerHost": 1, "deviceModel": "a100-80gb"}


def test_a_smaller_gang_is_the_same_run_with_the_same_batch():
    made = training(parallelism={**EIGHT, "microBatchSequences": 32}, resilience={"minHosts": 3})
    full, left = resolve(made), resolve(made, hosts=5)
    assert left.identity == full.identity
    assert left.digest() != full.digest()
    assert left.recipe == full.recipe
    assert (left.layout.hosts, left.layout.shard) == (5, 5)
    places = [place for rank in range(5) for place in left.share(rank)]
    assert places == list(range(256))


def test_every_size_down_to_the_smallest_when_nothing_forbids_it():
    assert gang_sizes(training(parallelism=EIGHT, resilience={"minHosts": 3})) == (3, 4, 5, 6, 7, 8)


def test_without_a_smallest_gang_there_is_only_the_full_one():
    assert gang_sizes(training(parallelism=EIGHT)) == (8,)


def test_a_fixed_shard_leaves_only_its_multiples():
    made = training(parallelism={**EIGHT, "shard": 2}, resilience={"minHosts": 2})
    assert gang_sizes(made) == (2, 4, 6, 8)


def test_each_size_resolves_and_the_others_do_not():
    made = training(parallelism={**EIGHT, "shard": 4}, resilience={"minHosts": 4})
    sizes = gang_sizes(made)
    for hosts in range(4, 9):
        if hosts in sizes:
            assert resolve(made, hosts=hosts).layout.hosts == hosts
        else:
            with pytest.raises(PlanError):
                resolve(made, hosts=hosts)


def test_a_training_that_cannot_run_has_no_sizes():
    with pytest.raises(PlanError):
        gang_sizes(training(model={"preset": "opt-175b"}))
