"""The chart's evaluation store in tests: SeaweedFS' own program, as the image that the chart names by default."""

from __future__ import annotations

import hashlib
from typing import Any

import yaml

from optcluster import images
from optcluster.cluster import Cluster
from support.charts import CHART
from support.s3 import weed_program


def give_seaweedfs(cluster: Cluster) -> None:
    """The image of the chart's default, on every node."""
    program = weed_program()
    name = yaml.safe_load((CHART / "values.yaml").read_text())["evaluationStore"]["image"]
    digest = hashlib.sha256(program.read_bytes()).hexdigest()[:16]
    archive = images.program_archive(name, program, digest)
    for node in cluster.nodes:
        images.load(node.machine, archive)


def store_values(namespace: str) -> dict[str, Any]:
    """Values for a release with a store in `namespace`, and its login there."""
    return {"evaluationStore": {"enabled": True, "secretNamespaces": [namespace]}}
