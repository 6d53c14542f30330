"""What a coordinator is told once: the plan, and where everything is."""

from __future__ import annotations

from dataclasses import dataclass

from opt_api.documents.manifests import RunningValues
from opt_api.documents.plan import LayoutPlan, Plan
from opt_api.resolve.resized import resized
from opt_runtime.memory.units import Division

SILENCE_S = 1.0
"""Without a report for so long a host counts as silent; agents report four times in that time."""
ADOPT_S = 3.0
"""After a restart the hosts of the gang get so long to report before anything is decided."""
ADOPT_QUIET_S = 1.5
"""Less, where some have reported and for so long nobody new: an agent tries again every 1.2 s at the latest."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One training.

    Attributes:
        plan: What is trained, on how many hosts, with which limits.
        rendezvous: `host:port` of the TCPStore.
        silence_s: See `SILENCE_S`.
        adopt_s: See `ADOPT_S`.
    """

    plan: Plan
    rendezvous: str
    silence_s: float = SILENCE_S
    adopt_s: float = ADOPT_S

    @property
    def run(self) -> str:
        """Name of the training."""
        return self.plan.name

    def division(self, world_size: int) -> Division:
        """How a gang of so many ranks keeps its state; in one of another size than the plan's no two keep the same."""
        layout = self.plan.layout
        pieces = layout.shard * layout.tensor_parallel if world_size in (0, layout.world_size) else world_size
        return Division(pieces, layout.devices_per_host)

    def replicas(self, hosts: int) -> int:
        """Ranks that hold the same part of the model in a gang of so many hosts."""
        return resized(self.plan, hosts).layout.replicate

    @property
    def first_values(self) -> RunningValues:
        """The running fields as the plan has them."""
        scale = self.plan.precision.loss_scale
        return RunningValues(
            learning_rate=self.plan.recipe.peak_learning_rate,
            clip=self.plan.recipe.clip,
            loss_scale_floor=scale.floor if scale else None,
            skip_batches=self.plan.skip_batches,
        )


def allowed_sizes(layout: LayoutPlan, batch_sequences: int) -> tuple[int, ...]:
    """Numbers of hosts whose data-parallel ranks share the batch evenly in whole micro batches, ascending.

    Accumulation makes up for missing hosts, so the batch and with it the data order stay what they are.
    """
    per_host = layout.devices_per_host // layout.tensor_parallel

    def fits(hosts: int) -> bool:
        data = hosts * per_host
        whole = layout.shard == layout.data_parallel or data % layout.shard == 0
        return whole and batch_sequences % (data * layout.micro_batch_sequences) == 0

    return tuple(hosts for hosts in range(1, layout.hosts + 1) if hosts == layout.hosts or fits(hosts))
