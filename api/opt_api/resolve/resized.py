"""The same plan for a gang of another size: the batch is kept, accumulation makes up for workers that are missing."""

from __future__ import annotations

from opt_api.documents.plan import Plan
from opt_api.estimate.memory import ceil_div


def resized(plan: Plan, hosts: int) -> Plan:
    """The plan as `hosts` hosts carry it out; the plan itself when that is the size it was made for.

    Raises:
        ValueError: So many hosts do not divide into the plan's shards and tensor-parallel groups.
    """
    layout = plan.layout
    if hosts == layout.hosts:
        return plan
    workers = hosts * layout.devices_per_host
    data = workers // layout.tensor_parallel
    whole = layout.shard == layout.data_parallel
    shard = data if whole else layout.shard
    if workers % layout.tensor_parallel or data < 1 or data % shard:
        raise ValueError(
            f"plan {plan.name!r}: {hosts} hosts are {workers} workers; they must be a multiple of shard x "
            f"tensorParallel, {layout.shard} x {layout.tensor_parallel}"
        )
    share = ceil_div(plan.recipe.batch_sequences, data)
    smaller = layout.model_copy(
        update={
            "hosts": hosts,
            "shard": shard,
            "replicate": data // shard,
            "accumulation": ceil_div(share, layout.micro_batch_sequences),
        }
    )
    return plan.model_copy(update={"layout": smaller})
