"""How many collective operations this process has begun: ranks that wait for each other differ in it by one."""

from __future__ import annotations

from torch.distributed.distributed_c10d import _world


def begun() -> int:
    """Over all process groups, as torch numbers them; 0 where there is none, or its backend numbers nothing.

    Every rank of a gang takes part in as many of them, since each runs the same program. Only counters are read: a
    heartbeat may ask while the loop hangs.
    """
    groups = list(_world.pg_map)
    try:
        return sum(group._get_sequence_number_for_group() for group in groups)  # type: ignore[attr-defined]
    except RuntimeError:  # torch's word for any backend but gloo, nccl, xccl and ucc: no reason to send no heartbeat
        return 0
