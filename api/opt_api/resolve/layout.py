"""From the parallelism section to the gang's layout, or to why there is none."""

from __future__ import annotations

from collections.abc import Callable

from opt_api.documents.plan import LayoutPlan
from opt_api.estimate.devices import DEVICES
from opt_api.estimate.layouts import Case, Fit, Near, device_model, divides, lay_out, nearest
from opt_api.estimate.memory import ceil_div
from opt_api.resolve.errors import Findings
from opt_api.training.parallelism import ParallelismSpec
from opt_api.training.spec import OPTTrainingSpec

GIB = 1 << 30
Check = Callable[[OPTTrainingSpec, Case, Findings], None]


def resolve_layout(spec: OPTTrainingSpec, case: Case, findings: Findings) -> LayoutPlan | None:
    """The layout of a full gang, or None where there is none and a finding says why."""
    for check in _CHECKS:
        check(spec, case, findings)
    if findings:
        return None
    wanted = lay_out(spec.parallelism, case)
    trains = spec.until != "Data"
    if trains and not wanted.fits:
        _does_not_fit(spec, wanted, nearest(spec.parallelism, case), findings)
    elif trains:
        _smallest_gang(spec, case, findings)
    return wanted.layout


def runs(spec: OPTTrainingSpec, case: Case) -> bool:
    """Whether the gang divides and fits."""
    return divides(spec.parallelism, case) and lay_out(spec.parallelism, case).fits


def _device(spec: OPTTrainingSpec, case: Case, findings: Findings) -> None:
    p, kind = spec.parallelism, device_model(spec.parallelism)
    if (kind == "cpu") != (p.device == "cpu"):
        allowed = "cpu" if p.device == "cpu" else ", ".join(name for name in DEVICES if name != "cpu")
        findings.add("parallelism.deviceModel", kind, f"with device {p.device}: {allowed}")
    elif case.compute not in DEVICES[kind].peak:
        findings.add("precision.compute", case.compute, f"{kind} computes in {', '.join(DEVICES[kind].peak)}")


def _tensor_parallel(spec: OPTTrainingSpec, case: Case, findings: Findings) -> None:
    tensor, a = spec.parallelism.tensor_parallel or 1, case.architecture
    split = {"heads": a.heads, "ffnSize": a.ffn_size, "vocabularySize": a.vocabulary_size}
    uneven = [f"{name} {number}" for name, number in split.items() if number % tensor]
    if uneven:
        findings.add("parallelism.tensorParallel", tensor, f"a divisor of {' and '.join(uneven)}")


def _gang(spec: OPTTrainingSpec, case: Case, findings: Findings) -> None:
    p = spec.parallelism
    data = p.hosts * p.devices_per_host // (p.tensor_parallel or 1)
    if data > case.batch_sequences:
        findings.add(
            "parallelism.hosts",
            f"{data} data-parallel workers",
            f"at most {case.batch_sequences}, one sequence of the batch each",
            "fewer hosts, or a larger optimisation.batchTokens",
        )
        return
    share = ceil_div(case.batch_sequences, data)
    if p.micro_batch_sequences and p.micro_batch_sequences > share:
        findings.add(
            "parallelism.microBatchSequences", p.micro_batch_sequences, f"at most {share}, the share of one worker"
        )


def _shard(spec: OPTTrainingSpec, case: Case, findings: Findings) -> None:
    """The spec's own rule says this of the full gang; here it is said of a gang of any size."""
    p = spec.parallelism
    data = p.hosts * p.devices_per_host // (p.tensor_parallel or 1)
    if data % (p.shard or 1):
        findings.add("parallelism.shard", p.shard, f"a divisor of the gang's {data} data-parallel workers")


_CHECKS: tuple[Check, ...] = (_device, _tensor_parallel, _shard, _gang)


def _does_not_fit(spec: OPTTrainingSpec, wanted: Fit, near: Near | None, findings: Findings) -> None:
    kind = wanted.layout.device_model
    findings.add(
        "pods.resources.memory" if kind == "cpu" else "parallelism",
        f"{wanted.needed.total / GIB:.2f} GiB needed on each device ({_parts(wanted)})",
        f"at most the {wanted.available / GIB:.2f} GiB that one {'worker' if kind == 'cpu' else kind} has",
        f"nearest layout that fits: {near}" if near else "no layout on this device fits; take a larger one",
    )


def _parts(wanted: Fit) -> str:
    parts = sorted(wanted.needed.model_dump(by_alias=False).items(), key=lambda part: -part[1])
    return ", ".join(f"{name} {size / GIB:.2f}" for name, size in parts)


def _smallest_gang(spec: OPTTrainingSpec, case: Case, findings: Findings) -> None:
    """The smallest gang that resilience.minHosts allows must be one that runs."""
    fewest = spec.resilience.min_hosts
    if fewest is None:
        return
    smallest: ParallelismSpec = spec.parallelism.model_copy(update={"hosts": fewest, "micro_batch_sequences": None})
    if not divides(smallest, case):
        found = f"a gang of {fewest} x {smallest.devices_per_host} workers"
        findings.add(
            "resilience.minHosts", found, "a multiple of parallelism.shard x tensorParallel; or leave shard out"
        )
    elif not (fit := lay_out(smallest, case)).fits:
        found = f"{fit.needed.total / GIB:.2f} GiB needed per device with {fewest} hosts"
        findings.add(
            "resilience.minHosts", found, f"a device has {fit.available / GIB:.2f} GiB; allow no fewer hosts than fit"
        )
