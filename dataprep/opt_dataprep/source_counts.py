"""What became of each source: every document read is kept, or dropped for one reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from opt_api.documents.manifests import SourceCounts
from opt_dataprep.dedup.drops import REASONS
from opt_dataprep.work.preparation import Preparation
from opt_dataprep.work.results import facts


def source_counts(preparation: Preparation) -> Iterator[SourceCounts]:
    """Yield the counts of each source, in the order of the spec."""
    (drops,) = facts(preparation, "drops")
    (select,) = facts(preparation, "select")
    read_facts, token_facts = facts(preparation, "read"), facts(preparation, "tokenise")
    for number, source in enumerate(preparation.plan.data.sources or ()):
        parts = [i for i, part in enumerate(preparation.plan.parts) if part.source == number]
        dropped: Counter[str] = Counter()
        repaired: Counter[str] = Counter()
        for i in parts:
            dropped.update(read_facts[i]["dropped"])
            repaired.update(read_facts[i]["repaired"])
            dropped.update({reason: drops[reason][i] for reason in REASONS.values()})
        yield SourceCounts(
            source=source.name,
            documents_read=sum(read_facts[i]["documents"] for i in parts),
            documents_kept=sum(token_facts[i]["documents"] for i in parts),
            documents_validation=sum(select["validation"][i][0] for i in parts),
            bytes_read=sum(read_facts[i]["bytesRead"] for i in parts),
            bytes_kept=sum(token_facts[i]["bytes"] for i in parts),
            tokens_train=sum(sum(select["segments"][i]) for i in parts),
            tokens_validation=sum(select["validation"][i][1] for i in parts),
            dropped={reason: n for reason, n in sorted(dropped.items()) if n},
            repaired={reason: n for reason, n in sorted(repaired.items()) if n},
        )
