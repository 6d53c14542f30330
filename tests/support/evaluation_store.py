"""The chart's evaluation store in tests: SeaweedFS' own program, as the image that the chart names by default."""

from __future__ import annotations

from typing import Any

from optcluster import images, store_image
from optcluster.cluster import Cluster


def give_seaweedfs(cluster: Cluster) -> None:
    """The image of the chart's default, on every node."""
    archive = store_image.archive()
    for node in cluster.nodes:
        images.load(node.machine, archive)


def store_values(namespace: str) -> dict[str, Any]:
    """Values for a release with a store in `namespace`, and its login there."""
    return {"evaluationStore": {"enabled": True, "secretNamespaces": [namespace]}}
