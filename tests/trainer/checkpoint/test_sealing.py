"""A manifest whose bytes changed anywhere is found out."""

from __future__ import annotations

import json

import pytest

from opt_trainer.checkpoint.errors import BadCheckpoint
from opt_trainer.checkpoint.sealing import open_sealed
from support.manifests import manifest_of

pytestmark = pytest.mark.unit


def test_a_sealed_manifest_opens():
    manifest = manifest_of(["w"])
    assert open_sealed(manifest.to_bytes(), "m") == manifest


def test_every_flipped_byte_is_caught():
    data = manifest_of(["w"]).to_bytes()
    for at in range(len(data)):
        for flip in (1, 32):
            broken = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            with pytest.raises(BadCheckpoint):
                open_sealed(broken, "m")


@pytest.mark.parametrize(
    "change", [lambda d: d[:-1], lambda d: d + b" ", lambda d: b"", lambda d: d.replace(b",", b", ", 1)]
)
def test_other_lengths_are_caught(change):
    with pytest.raises(BadCheckpoint, match="'m'"):
        open_sealed(change(manifest_of(["w"]).to_bytes()), "'m'")


def test_a_manifest_without_seal_is_refused():
    document = json.loads(manifest_of(["w"]).to_bytes())
    del document["seal"]
    bare = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(BadCheckpoint, match="its seal is None"):
        open_sealed(bare, "m")
