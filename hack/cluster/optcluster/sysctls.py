"""Kernel settings of the whole machine that a kubelet changes: remembered, and put back when the last one is gone."""

from pathlib import Path

# see setupKernelTunables in k8s.io/kubernetes/pkg/kubelet/cm/container_manager_linux.go
CHANGED_BY_KUBELET = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


def read() -> dict[str, str]:
    """The present values."""
    files = {name: Path("/proc/sys") / name for name in CHANGED_BY_KUBELET}
    return {name: file.read_text().strip() for name, file in files.items() if file.exists()}


def restore(values: dict[str, str]) -> None:
    """Puts values back."""
    for name, value in values.items():
        file = Path("/proc/sys") / name
        if file.exists() and file.read_text().strip() != value:
            file.write_text(value)
