"""Where everything lives on disk: one cache folder outside the source tree, and one folder per cluster in it."""

import os
from pathlib import Path

SOURCE_ROOT = Path(__file__).resolve().parents[3]
TOOL_MODULES = SOURCE_ROOT / "hack" / "cluster" / "tools"


def cache_root() -> Path:
    """The folder for builds, images and running clusters: `OPT_OPERATOR_CACHE` or `~/.cache/opt-operator`."""
    return Path(os.environ.get("OPT_OPERATOR_CACHE") or Path.home() / ".cache" / "opt-operator").absolute()


def tools_root() -> Path:
    """Built programs, one folder per family and digest."""
    return cache_root() / "tools"


def images_root() -> Path:
    """Image archives and unpacked image stores, one folder per digest."""
    return cache_root() / "images"


def clusters_root() -> Path:
    """Running clusters, one folder each; on the same file system as the images, so that these can be hard-linked."""
    return cache_root() / "clusters"


def make_private(folder: Path) -> Path:
    """Creates `folder` (and its parents) so that only its owner can enter, and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder
