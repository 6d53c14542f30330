"""Finds every program a cluster runs: the user's own test assets, our cache, or Debian's packages."""

import os
import shutil
import subprocess
from pathlib import Path

from optcluster import build
from optcluster.errors import ClusterError, say
from optcluster.families import FAMILIES, family_of

# program -> Debian package that has it
DEBIAN_FOR_CONTROL_PLANE = {
    "etcd": "etcd-server",
    "ip": "iproute2",
    "openssl": "openssl",
    "unshare": "util-linux",
    "nsenter": "util-linux",
}
DEBIAN = DEBIAN_FOR_CONTROL_PLANE | {
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "socat": "socat",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
}
DEBIAN_FOR_IMAGES = {"buildah": "buildah", "debootstrap": "debootstrap"}


def assets() -> Path | None:
    """The folder that the user named in `KUBEBUILDER_ASSETS`."""
    named = os.environ.get("KUBEBUILDER_ASSETS")
    return Path(named) if named else None


def find(program: str) -> Path:
    """The path of a program: the user's assets come first, then our cache, then the PATH.

    Raises:
        ClusterError: it is nowhere; the message says how to get it.
    """
    own = assets()
    if own and (own / program).exists():
        return own / program
    if program in DEBIAN | DEBIAN_FOR_IMAGES:
        found = shutil.which(program)
        if found is None:
            raise ClusterError(f"{program} is missing: {_how_to_install([(DEBIAN | DEBIAN_FOR_IMAGES)[program]])}")
        return Path(found)
    path = build.folder_of(family_of(program)) / program
    if not path.exists():
        raise ClusterError(f"{program} is not built yet: run `make cluster-up`, or `hack/cluster/cluster.py build`")
    return path


def is_at_hand(program: str) -> bool:
    """Whether `find` would find it."""
    try:
        return find(program).exists()
    except ClusterError:
        return False


def provide(families: tuple[str, ...], debian: dict[str, str] | None = None) -> None:
    """Makes sure that the families and Debian's programs are there; builds and installs what is not.

    With `KUBEBUILDER_ASSETS` set nothing is built.

    Raises:
        ClusterError: something is missing and may not or cannot be made here.
    """
    provide_debian(DEBIAN if debian is None else debian)
    own = assets()
    if own is None:
        build.ensure(families)
        return
    for name in families:
        family = FAMILIES[name]
        missing = [program for program in family.programs if not (own / program).exists()]
        if missing and not build.is_built(family):
            raise ClusterError(
                f"KUBEBUILDER_ASSETS={own} does not hold {', '.join(missing)}, and nothing is built while it is set: "
                "unset it, or run `env -u KUBEBUILDER_ASSETS hack/cluster/cluster.py build` once"
            )


def provide_debian(programs: dict[str, str]) -> None:
    """Installs the Debian packages of the programs that are missing, where we may.

    Raises:
        ClusterError: we may not (no root or no apt-get), or apt-get failed.
    """
    own = assets()
    present = [name for name in programs if shutil.which(name) or (own and (own / name).exists())]
    packages = sorted({package for program, package in programs.items() if program not in present})
    if not packages:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ClusterError(f"missing: {', '.join(packages)}. {_how_to_install(packages)}")
    say(f"installing Debian packages: {' '.join(packages)}")
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for attempt in (["apt-get", "update"], command):
        done = subprocess.run(attempt, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ClusterError(f"`{' '.join(attempt)}` failed:\n{done.stderr.strip()}")


def _how_to_install(packages: list[str]) -> str:
    return f"On Debian or Ubuntu: apt-get install {' '.join(packages)}"
