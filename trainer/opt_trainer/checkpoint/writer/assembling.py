"""The ranks' parts as one manifest, or why they make none. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from opt_api.documents.manifests import CheckpointManifest, HeldBox, TensorEntry
from opt_trainer.checkpoint.boxes import Box, covers_exactly
from opt_trainer.checkpoint.errors import SaveFailed
from opt_trainer.checkpoint.job import BoxGroup, CheckpointPart

Held = Mapping[str, Sequence[HeldBox]]
"""The boxes of each tensor. Tensors of one group share the very objects, so thousands of ranks take little memory."""


def assemble(draft: CheckpointManifest, parts: Sequence[CheckpointPart]) -> CheckpointManifest:
    """The sealed manifest of all ranks' parts.

    Raises:
        SaveFailed: Ranks disagree on a tensor, or its pieces do not cover it exactly once.
    """
    ordered = sorted(parts, key=lambda part: part.rank)
    tensors: dict[str, TensorEntry] = {}
    held: dict[str, list[HeldBox]] = defaultdict(list)
    for part in ordered:
        for group in part.groups:
            for name in group.names:
                if (known := tensors.get(name)) is None:
                    tensors[name] = TensorEntry(name=name, dtype=group.dtype, shape=group.box.whole)
                elif (known.dtype, known.shape) != (group.dtype, group.box.whole):
                    raise SaveFailed(_difference(part.rank, known, group))
                held[name].append(group.box)
    _check_covered(tensors, held)
    objects = tuple(part.object for part in ordered)
    found = draft.model_copy(update={"objects": objects, "tensors": tuple(tensors[name] for name in sorted(tensors))})
    return found.sealed()


def _difference(rank: int, known: TensorEntry, group: BoxGroup) -> str:
    here, there = f"{group.dtype} {group.box.whole}", f"{known.dtype} {known.shape}"
    return f"tensor {known.name!r}: rank {rank} has {here}, a lower rank {there}"


def _check_covered(tensors: Mapping[str, TensorEntry], held: Held) -> None:
    """Tensors that are cut alike are judged once."""
    judged: dict[tuple[int, ...], str | None] = {}
    for name, entry in tensors.items():
        cut = tuple(map(id, held[name]))
        if cut not in judged:
            judged[cut] = covers_exactly(entry.shape, [Box(b.offset, b.shape) for b in held[name]])
        if problem := judged[cut]:
            raise SaveFailed(f"tensor {name!r}: {problem}; each box needs exactly one owner")
