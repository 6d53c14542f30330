"""Every valid spec gives a plan or problems; plans obey their identities; equal specs give equal bytes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opt_api.architecture import PRESETS
from opt_api.canonical import canonical_json
from opt_api.documents.plan import Plan
from opt_api.estimate.estimate import estimate
from opt_api.parsing import parse_mapping
from opt_api.problems import Problems
from opt_api.resolve import PlanError, resolve
from opt_api.resources import OPTTraining
from support.trainings import document

pytestmark = pytest.mark.integration

small = st.integers(1, 12)


def section(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping with any of the fields."""
    return st.fixed_dictionaries({}, optional=fields)


SPECS = st.fixed_dictionaries(
    {
        "model": st.builds(
            lambda preset, rest: {**rest, "preset": preset},
            st.sampled_from([*PRESETS, "custom"]),
            section(
                layers=small, heads=st.sampled_from([1, 2, 8, 12]), hiddenSize=st.sampled_from([8, 96, 512, 8192]),
                ffnSize=st.sampled_from([30, 4096]), embeddingSize=st.sampled_from([8, 512]),
                vocabularySize=st.sampled_from([8, 4096, 50272]), maxPositions=st.sampled_from([32, 4096]),
                normPosition=st.sampled_from(["pre", "post"]), attentionDropout=st.sampled_from([0, 0.1]),
            ),
        ),
        "parallelism": section(
            hosts=st.sampled_from([1, 2, 3, 124, 16384]), devicesPerHost=st.sampled_from([1, 2, 3, 8]),
            device=st.sampled_from(["cuda", "cpu"]),
            deviceModel=st.sampled_from(["cpu", "v100-32gb", "a100-40gb", "h200-141gb", "b200-192gb"]),
            tensorParallel=st.sampled_from([1, 2, 8]), shard=st.sampled_from([1, 2, 124]),
            activationCheckpointing=st.sampled_from(["none", "selective", "full"]),
            microBatchSequences=st.sampled_from([1, 3, 4096]),
        ),
        "precision": section(compute=st.sampled_from(["float32", "bfloat16", "float16"])),
        "optimisation": section(
            learningRate=st.sampled_from([1e-4, 10]), batchTokens=st.integers(1, 4096).map(lambda n: n * 512),
            totalTokens=st.sampled_from([1, 10**6, 10**12, 10**18]), warmupTokens=st.sampled_from([0, 10**5]),
            learningRateSource=st.sampled_from(["paper", "code"]),
        ),
        "checkpointing": section(
            interval=section(steps=st.integers(1, 10**18)), assumedStallSeconds=st.sampled_from([1e-9, 1.0, 1e18]),
            assumedHoursBetweenFaults=st.sampled_from([1e-9, 12.2, 1e18]), memoryTier=st.booleans(),
        ),
        "resilience": section(
            spares=st.integers(0, 1024), minHosts=st.sampled_from([1, 2, 124]), hostLossPerDay=st.floats(0, 10_000)
        ),
        "pods": section(resources=section(cpu=st.sampled_from(["1m", "8"]), memory=st.sampled_from(["0", "1Ti"]))),
        "until": st.sampled_from(["Data", "Training", "Evaluation"]),
    }
)  # fmt: skip


def parsed(spec: dict[str, Any]) -> OPTTraining | None:
    """The training, or None where the spec is not valid."""
    try:
        made = parse_mapping(document(**spec))
    except Problems:
        return None
    assert isinstance(made, OPTTraining)
    return made


@settings(max_examples=200)
@given(SPECS)
def test_a_valid_spec_gives_a_plan_that_obeys_its_identities_or_problems(spec):
    made = parsed(spec)
    if made is None:
        return
    plan = resolved(made)
    if isinstance(plan, PlanError):
        assert plan.items
        assert all(item.path.startswith("spec.") and item.found and item.allowed for item in plan.items)
        return
    check_identities(plan)
    needs = estimate(made, plan)
    assert made.spec.until == "Data" or needs.memory_needed <= needs.memory_available
    assert 0 <= needs.duration.expected_ettr <= 1
    assert canonical_json(needs.wire())


def resolved(made: OPTTraining) -> Plan | PlanError:
    try:
        return resolve(made)
    except PlanError as error:
        return error


def check_identities(plan: Plan) -> None:
    layout, recipe = plan.layout, plan.recipe
    data = layout.data_parallel
    assert layout.world_size == layout.replicate * layout.shard * layout.tensor_parallel
    largest = -(-recipe.batch_sequences // data)
    assert layout.micro_batch_sequences * (layout.accumulation - 1) < largest
    assert largest <= layout.micro_batch_sequences * layout.accumulation
    for rank in {0, data // 2, data - 1}:
        share = plan.share(rank)
        assert len(share) in {recipe.batch_sequences // data, largest}
    assert plan.share(0).start == 0
    assert plan.share(data - 1).stop == recipe.batch_sequences
    assert recipe.warmup_steps < recipe.total_steps
    assert (plan.checkpointing.interval_steps is None) != (plan.checkpointing.interval_seconds is None)
    assert Plan.from_bytes(plan.to_bytes()) == plan


@settings(max_examples=50)
@given(SPECS, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(spec, order):
    made = parsed(spec)
    if made is None:
        return
    shuffled = parsed(reordered(spec, order))
    assert shuffled is not None
    assert outcome(shuffled) == outcome(made)


def outcome(made: OPTTraining) -> bytes | str:
    found = resolved(made)
    return str(found) if isinstance(found, PlanError) else found.to_bytes()


def reordered(value: Any, order: random.Random) -> Any:
    if not isinstance(value, dict):
        return value
    keys = list(value)
    order.shuffle(keys)
    return {key: reordered(value[key], order) for key in keys}
