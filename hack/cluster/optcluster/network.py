"""The cluster's network: one bridge inside the control plane's namespace, and a cable to it from every machine.

The bridge is not in this machine's own namespace, so neither its firewall nor that of Docker touches the traffic,
and everything but one link on our side goes away with the control plane.
"""

import subprocess

from optcluster.addresses import Addresses
from optcluster.errors import ClusterError
from optcluster.machine import Machine

BRIDGE = "fabric"


def host_link(addresses: Addresses) -> str:
    """The name of the link on this machine's side."""
    return f"optcluster{addresses.block}"


def build_fabric(hub: Machine, addresses: Addresses) -> None:
    """Makes the bridge on `hub`, with an address of its own, and the cable from this machine."""
    link = host_link(addresses)
    _ip(f"link add name {link} type veth peer name host netns {_pid(hub)}")
    _ip_inside(
        hub,
        "link set lo up",
        # a fixed hardware address: a bridge otherwise takes the lowest of its ports', and each new cable may change it
        f"link add name {BRIDGE} address 02:00:0a:{addresses.block:02x}:00:02 type bridge",
        f"address add {addresses.control_plane}/24 dev {BRIDGE}",
        f"link set {BRIDGE} up",
        f"link set host master {BRIDGE} up",
    )
    _ip(
        f"address add {addresses.host}/24 dev {link}",
        f"link set {link} up",
        f"route add {addresses.services} via {addresses.node(1)} dev {link}",
    )


def plug_in(node: Machine, number: int, hub: Machine, addresses: Addresses) -> None:
    """Lays a cable from node `number` to the bridge, and tells everyone the way to its pods."""
    port, way = _port(number), f"route replace {addresses.node_pods(number)} via {addresses.node(number)}"
    _ip(f"link add name {port} netns {_pid(hub)} type veth peer name eth0 netns {_pid(node)}")
    _ip_inside(hub, f"link set {port} master {BRIDGE} up", way)
    _ip_inside(
        node,
        "link set lo up",
        f"address add {addresses.node(number)}/24 dev eth0",
        "link set eth0 up",
        # Service addresses need some route to leave by, before they are rewritten
        f"route add default via {addresses.control_plane}",
    )
    node.inside("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    _ip(f"{way} dev {host_link(addresses)}")


def tell_ways(node: Machine, number: int, count: int, addresses: Addresses) -> None:
    """Gives one node the routes to the pods of all the others."""
    others = [other for other in range(1, count + 1) if other != number]
    _ip_inside(node, *(f"route replace {addresses.node_pods(n)} via {addresses.node(n)}" for n in others))


def cut_off(hub: Machine, number: int) -> None:
    """Pulls the cable of node `number`: nothing gets in or out, and neither side is told."""
    _ip_inside(hub, f"link set {_port(number)} down")


def heal(hub: Machine, number: int) -> None:
    """Plugs the cable of node `number` in again."""
    _ip_inside(hub, f"link set {_port(number)} up")


def remove_host_link(addresses: Addresses) -> None:
    """Removes this machine's cable, if the namespace at its other end has not already done so."""
    subprocess.run(["ip", "link", "delete", host_link(addresses)], check=False, capture_output=True)


def _port(number: int) -> str:
    return f"node{number}"


def _pid(machine: Machine) -> int:
    process = machine.process
    if process is None:
        raise ClusterError(f"machine {machine.name} is not running")
    return process.pid


def _ip(*lines: str) -> None:
    done = subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"`ip` failed: {done.stderr.strip()} (given: {'; '.join(lines)})")


def _ip_inside(machine: Machine, *lines: str) -> None:
    machine.inside("ip", "-batch", "-", given="\n".join(lines))
