"""The command line: up, down, status, build, kubeconfig."""

import argparse
import sys
from collections.abc import Callable

from optcluster import build, lifecycle, programs
from optcluster.cluster import Cluster
from optcluster.errors import ClusterError
from optcluster.families import CONTROL_PLANE, EXTRAS, FAMILIES, NODES
from optcluster.record import all_records

DEFAULT_NAME = "default"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, or 1 with the reason on stderr."""
    given = _parser().parse_args(arguments)
    try:
        COMMANDS[given.command](given)
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cluster.py", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--name", default=DEFAULT_NAME, help="which cluster (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=3, help="up: how many real nodes (default: %(default)s)")
    parser.add_argument("--families", nargs="*", default=[*CONTROL_PLANE, *NODES, *EXTRAS], choices=FAMILIES,
                        help="build: which programs (default: all)")  # fmt: skip
    return parser


def _up(given: argparse.Namespace) -> None:
    made = lifecycle.up(given.name, given.nodes)
    _print_environment(made)


def _down(given: argparse.Namespace) -> None:
    lifecycle.down(Cluster.load(given.name))
    build.say(f"cluster {given.name!r} is down")


def _status(_: argparse.Namespace) -> None:
    for record in all_records():
        found = Cluster(record)
        print(f"{record.name}: 10.{record.block}.0.0/16, control plane {'up' if found.hub.is_up else 'down'}")
        for one in found.nodes:
            print(f"  {one.name}: {'up' if one.machine.is_up else 'down'}")


def _build(given: argparse.Namespace) -> None:
    build.ensure(tuple(given.families))
    for name in given.families:
        print(build.folder_of(FAMILIES[name]))


def _kubeconfig(given: argparse.Namespace) -> None:
    _print_environment(Cluster.load(given.name))


def _print_environment(of: Cluster) -> None:
    """For `eval`: the kubeconfig, and kubectl (and helm, once built) on the PATH."""
    folders = {str(programs.find("kubectl").parent)}
    if programs.assets() is None:
        folders |= {str(build.folder_of(FAMILIES[name])) for name in ("helm", "kubeconform")}
    print(f"export KUBECONFIG={of.kubeconfig}")
    print(f"export PATH={':'.join(sorted(folders))}:$PATH")


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "build": _build,
    "kubeconfig": _kubeconfig,
}
