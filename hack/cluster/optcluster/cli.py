"""The command line, for people: clusters up and down, and what may happen to their nodes."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from optcluster import build, images, lifecycle, minio, programs, role_images, store_image
from optcluster.cluster import Cluster, Node
from optcluster.errors import ClusterError, say
from optcluster.families import CONTROL_PLANE, EXTRAS, FAMILIES, NODES
from optcluster.kwok import FakeNodes
from optcluster.prune import prune
from optcluster.record import all_records

DEFAULT_NAME = "default"


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; returns the exit code: 0, or 1 with the reason on stderr."""
    given = _parser().parse_args(arguments)
    try:
        given.run(given)
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cluster.py", description="Real Kubernetes clusters on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (run, told) in COMMANDS.items():
        command = commands.add_parser(name, help=told, description=told)
        command.set_defaults(run=run)
        command.add_argument("--name", default=DEFAULT_NAME, help="which cluster (default: %(default)s)")
        for flags, options in ARGUMENTS.get(name, ()):
            command.add_argument(flags, **options)
    return parser


def _up(given: argparse.Namespace) -> None:
    ready = role_images.cached()
    made = lifecycle.up(given.name, given.nodes, archives=ready)
    if given.nodes and len(ready) < len(role_images.TRAINING):
        say("not all images are built yet: `cluster.py images` builds them and gives them to the nodes")
    _print_environment(made)


def _down(given: argparse.Namespace) -> None:
    lifecycle.down(Cluster.load(given.name))
    say(f"cluster {given.name!r} is down")


def _status(_: argparse.Namespace) -> None:
    for record in all_records():
        found = Cluster(record)
        until = f"ends with process {record.owner.pid}" if record.owner else "stays until `down`"
        state = "up" if found.hub.is_up else "down"
        print(f"{record.name}: control plane {state} at {found.addresses.api_url}, {until}")
        for one in found.nodes:
            print(f"  {one.name}: {'up' if one.machine.is_up else 'down'}")


def _build(given: argparse.Namespace) -> None:
    names = tuple(given.families) or (*CONTROL_PLANE, *NODES, *EXTRAS)
    build.ensure(names)
    for name in names:
        print(build.folder_of(FAMILIES[name]))


def _environment(given: argparse.Namespace) -> None:
    _print_environment(Cluster.load(given.name))


def _images(given: argparse.Namespace) -> None:
    running = next((Cluster(record) for record in all_records() if record.name == given.name), None)
    for role in given.roles or role_images.TRAINING:
        packages, code = *role_images.archives([role]), role_images.with_code(role)
        if running:
            _load_into(running, packages, code)
        print(role_images.ROLES[role].image)
    if not given.roles:
        store = store_image.archive()
        if running:
            _load_into(running, store)
        print(store_image.name())


def _context(given: argparse.Namespace) -> None:
    role_images.make_context(given.role, given.folder)
    print(f"build --file images/Dockerfile --build-arg ROLE={given.role} {given.folder}")


def _prune(_: argparse.Namespace) -> None:
    for path in prune():
        print(path)


def _load(given: argparse.Namespace) -> None:
    _load_into(Cluster.load(given.name), given.archive)


def _load_into(cluster: Cluster, *archives: Path) -> None:
    for one in cluster.nodes:
        for archive in archives:
            images.load(one.machine, archive)
        say(f"{one.name} has {archives[-1].name}")


def _minio(given: argparse.Namespace) -> None:
    server = minio.start(Cluster.load(given.name))
    values = {"S3_URL_IN_PODS": server.url, "S3_URL": server.address}
    login = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    for name, value in (values | login).items():
        print(f"export {name}={shlex.quote(value)}")


def _kwok(given: argparse.Namespace) -> None:
    fake = FakeNodes(Cluster.load(given.name))
    fake.enable()
    for number in range(1, given.count + 1):
        print(fake.add(f"fake-{number}"))


def _to_node(what: Callable[[Node], None]) -> Callable[[argparse.Namespace], None]:
    def run(given: argparse.Namespace) -> None:
        cluster = Cluster.load(given.name)
        if not 1 <= given.node <= cluster.record.nodes:
            raise ClusterError(f"node: {given.node} is not from 1 to {cluster.record.nodes}")
        what(cluster.node(given.node))

    return run


def _print_environment(of: Cluster) -> None:
    """For `eval`: the kubeconfig, and kubectl (helm and kubeconform, where built) on the PATH."""
    folders = [programs.find("kubectl").parent]
    if programs.assets() is None:
        folders += [build.folder_of(FAMILIES[name]) for name in ("helm", "kubeconform")]
    print(f"export KUBECONFIG={shlex.quote(str(of.kubeconfig))}")
    print(f"export PATH={shlex.quote(os.pathsep.join(str(folder) for folder in folders if folder.is_dir()))}:$PATH")


COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], None], str]] = {
    "up": (_up, "start a cluster, building what is missing; it stays until `down`"),
    "down": (_down, "stop a cluster and leave no trace of it"),
    "status": (_status, "list the clusters and their machines"),
    "env": (_environment, "print KUBECONFIG and PATH of a running cluster, for eval"),
    "build": (_build, "build the programs that are not in the cache"),
    "images": (
        _images,
        "build the images of the roles with this checkout's code and of a store, and give them to a running cluster",
    ),
    "context": (_context, "make the build context of a role's image, for docker, podman or buildah"),
    "prune": (_prune, "remove from the cache what this checkout would not use"),
    "load": (_load, "give the nodes an image from an archive (OCI or Docker)"),
    "minio": (_minio, "start an S3 server in the cluster and print how to log in, for eval"),
    "kwok": (_kwok, "start KWOK in the cluster and add fake nodes"),
    "start": (_to_node(Node.start), "switch a killed node on again"),
    "kill": (_to_node(Node.kill), "end a node whole, at once"),
    "freeze": (_to_node(Node.freeze), "stop everything on a node in mid-step"),
    "thaw": (_to_node(Node.thaw), "let a frozen node go on"),
    "cut-off": (_to_node(Node.cut_off), "take a node's network away"),
    "heal": (_to_node(Node.heal), "give a node its network back"),
}
_NODE: list[tuple[str, dict[str, Any]]] = [("node", {"type": int, "help": "its number, from 1"})]
ARGUMENTS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "up": [("--nodes", {"type": int, "default": 3, "help": "how many real nodes (default: %(default)s)"})],
    "build": [("families", {"nargs": "*", "choices": [*FAMILIES, []], "help": "which (default: all)"})],
    "images": [
        (
            "roles",
            {
                "nargs": "*",
                "choices": [*role_images.ROLES, []],
                "help": "which (default: for training, and the evaluation store)",
            },
        )
    ],
    "context": [
        ("role", {"choices": role_images.ROLES, "help": "whose image"}),
        ("folder", {"type": Path, "help": "a folder that is not there yet"}),
    ],
    "load": [("archive", {"type": Path, "help": "the archive"})],
    "kwok": [("--count", {"type": int, "default": 1, "help": "how many (default: %(default)s)"})],
    **dict.fromkeys(("start", "kill", "freeze", "thaw", "cut-off", "heal"), _NODE),
}
