"""Puts a thin layer of files on an image that the nodes already have: what changes from run to run, in a second.

The archive holds the new layer, configuration and manifest alone; the layers below are in every node's store. See the
OCI image specification, https://github.com/opencontainers/image-spec.
"""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

# Debian's Python looks here; see role_images.SUITE
PYTHON_PACKAGES = "usr/local/lib/python3.11/dist-packages"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def with_files(
    base: Path, image: str, files: dict[str, bytes], target: Path, executable: frozenset[str] = frozenset(),
    environment: tuple[str, ...] = (),
) -> Path:  # fmt: skip
    """Writes the archive `target`: the image of the archive `base` with `files` (path -> content) on top."""
    with tarfile.open(base) as archive:
        index = _read(archive, "index.json")
        manifest = _read(archive, _blob(index["manifests"][0]["digest"]))
        config = _read(archive, _blob(manifest["config"]["digest"]))
    layer = _tar(files, executable)
    packed = gzip.compress(layer, compresslevel=1, mtime=0)
    config["rootfs"]["diff_ids"].append(_digest(layer))
    config["config"].setdefault("Env", []).extend(environment)
    config.setdefault("history", []).append({"created_by": "optcluster: files of this run"})
    new_config = json.dumps(config).encode()
    manifest["config"] |= {"digest": _digest(new_config), "size": len(new_config)}
    manifest["layers"].append({"mediaType": LAYER, "digest": _digest(packed), "size": len(packed)})
    new_manifest = json.dumps(manifest).encode()
    entry = {"mediaType": manifest.get("mediaType", "application/vnd.oci.image.manifest.v1+json")}
    entry |= {"digest": _digest(new_manifest), "size": len(new_manifest)}
    entry |= {"annotations": {"io.containerd.image.name": image}}
    blobs = {_blob(_digest(content)): content for content in (packed, new_config, new_manifest)}
    layout = {"index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()}
    target.write_bytes(_tar({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', **layout, **blobs}))
    return target


def _tar(files: dict[str, bytes], executable: frozenset[str] = frozenset()) -> bytes:
    """Equal files give equal bytes: no times, no owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if name in executable else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _read(archive: tarfile.TarFile, name: str) -> Any:
    member = archive.extractfile(name)
    assert member is not None
    return json.load(member)


def _blob(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()
