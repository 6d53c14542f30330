"""TensorBoard itself reads what is written."""

from __future__ import annotations

import subprocess
import sys

import pytest

from opt_trainer.telemetry.tfevents import EventFile, masked_crc

READ = """
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
a = EventAccumulator(sys.argv[1]); a.Reload()
for tag in sorted(a.Tags()["scalars"]):
    print(tag, [(e.step, e.value) for e in a.Scalars(tag)])
"""


@pytest.mark.unit
def test_known_checksums():
    """CRC-32C of 32 zero bytes is 0x8A9136AA (RFC 3720, appendix B.4)."""
    crc = 0x8A9136AA
    assert masked_crc(bytes(32)) == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.integration
def test_tensorboard_reads_every_point(tmp_path):
    events = EventFile(tmp_path)
    events.scalars(1, {"train/loss": 2.5, "train/lr": 0.001})
    events.scalars(2**40, {"train/loss": float("nan")})
    events.close()
    program = [sys.executable, "-W", "ignore", "-c", READ, str(tmp_path)]
    out = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()
    assert out == [
        "train/loss [(1, 2.5), (1099511627776, nan)]",
        "train/lr [(1, 0.0010000000474974513)]",
    ]
