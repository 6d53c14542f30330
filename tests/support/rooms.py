"""Hosts in network name spaces of their own, on one bridge: each can be cut off as by pulling its cable."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from opt_runtime.local.cluster import Room

INTERFACE = "eth0"
"""Of every host, inside its name space."""


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()} (name spaces need root and iproute2)")


@dataclass
class Lan:
    """A bridge with one name space for each host."""

    address: str
    rooms: dict[str, Room] = field(default_factory=dict)
    cables: dict[str, str] = field(default_factory=dict)

    def cut(self, host: str) -> None:
        """Nothing gets through any more, and nobody is told."""
        _ip("link", "set", self.cables[host], "down")

    def mend(self, host: str) -> None:
        """The cable is back."""
        _ip("link", "set", self.cables[host], "up")


@contextmanager
def lan_of(hosts: list[str]) -> Iterator[Lan]:
    """The network, for as long as the block lasts."""
    tag, net = f"opt{os.getpid() % 100000}", f"10.{200 + os.getpid() % 50}.{os.getpid() % 250}"
    lan = Lan(f"{net}.1")
    made: list[tuple[str, ...]] = []
    try:
        _ip("link", "add", tag, "type", "bridge")
        made.append(("link", "del", tag))
        _ip("addr", "add", f"{net}.1/24", "dev", tag)
        _ip("link", "set", tag, "up")
        for number, host in enumerate(hosts):
            space, cable = f"{tag}-{number}", f"{tag}v{number}"
            _ip("netns", "add", space)
            made.append(("netns", "del", space))
            _ip("link", "add", cable, "type", "veth", "peer", "name", INTERFACE, "netns", space)
            _ip("link", "set", cable, "master", tag, "up")
            _ip("-n", space, "addr", "add", f"{net}.{10 + number}/24", "dev", INTERFACE)
            _ip("-n", space, "link", "set", INTERFACE, "up")
            _ip("-n", space, "link", "set", "lo", "up")
            lan.rooms[host] = Room(("ip", "netns", "exec", space), f"{net}.{10 + number}")
            lan.cables[host] = cable
        yield lan
    finally:
        for words in reversed(made):
            _ip(*words)
