"""What one device of each kind can do, by its maker's data sheet, and what share of that training reaches."""

from __future__ import annotations

from dataclasses import dataclass

from opt_api.training.parallelism import DeviceModel, NumberFormat

GIB = 1 << 30


@dataclass(frozen=True)
class DeviceFacts:
    """One kind of device.

    Attributes:
        peak: dense peak in FLOP/s by number format; a format that the device does not compute in is absent.
        memory: bytes that a program sees. For cpu the pod's own limit counts instead.
        watts: rated power (TDP) of one device; of one core for cpu.
        bandwidth: memory bandwidth in bytes/s.
        utilisation: share of the peak that the device's own work, recomputation included, reaches (HFU).
        source: where the utilisation comes from.
    """

    peak: dict[NumberFormat, float]
    memory: int
    watts: float
    bandwidth: float
    utilisation: float
    source: str


_OPT = "OPT-175B: 147 of 312 TFLOP/s, recomputation counted (arXiv 2205.01068, section 2.4)"
_LLAMA = "Llama 3 405B on H100: 41 % (arXiv 2407.21783, table 4)"
_MEGATRON = "Megatron-LM on V100: 39 TFLOP/s, 30 % of peak (arXiv 1909.08053, section 5.1)"

CPU_CORE_FLOPS = 80e9
"""One core at 2.5 GHz with two 256-bit fused multiply-add units: 2.5e9 x 32 FLOP in float32."""

DEVICES: dict[DeviceModel, DeviceFacts] = {
    "cpu": DeviceFacts(
        {"float32": CPU_CORE_FLOPS, "bfloat16": CPU_CORE_FLOPS},
        0, 8.0, 20e9, 0.35,
        "assumed: one core of a server chip, 80 GFLOP/s and 8 W; no published figure",
    ),
    "v100-32gb": DeviceFacts({"float32": 15.7e12, "float16": 125e12}, 32 * GIB, 300, 0.9e12, 0.30, _MEGATRON),
    "a100-40gb": DeviceFacts(
        {"float32": 19.5e12, "bfloat16": 312e12, "float16": 312e12}, 40 * GIB, 400, 1.555e12, 147 / 312, _OPT
    ),
    "a100-80gb": DeviceFacts(
        {"float32": 19.5e12, "bfloat16": 312e12, "float16": 312e12}, 80 * GIB, 400, 2.039e12, 147 / 312, _OPT
    ),
    "h100-80gb": DeviceFacts(
        {"float32": 67e12, "bfloat16": 989e12, "float16": 989e12}, 80 * GIB, 700, 3.35e12, 0.41, _LLAMA
    ),
    "h200-141gb": DeviceFacts(
        {"float32": 67e12, "bfloat16": 989e12, "float16": 989e12}, 140 * GIB, 700, 4.8e12, 0.41,
        _LLAMA + "; assumed for H200, the same chip with more memory",
    ),
    "b200-192gb": DeviceFacts(
        {"float32": 75e12, "bfloat16": 2250e12, "float16": 2250e12}, 179 * GIB, 1000, 8e12, 0.41,
        _LLAMA + "; assumed for B200, no published figure",
    ),
}  # fmt: skip
"""Peaks, power and bandwidth from the makers' data sheets (SXM parts, dense, no sparsity)."""


def device_memory(kind: DeviceModel) -> int:
    """Bytes one GPU offers; 0 for cpu, whose bound is the pod's."""
    return DEVICES[kind].memory
