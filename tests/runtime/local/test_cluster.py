"""Ports of a run's programs are theirs before they start, and while they are started again."""

from __future__ import annotations

import socket

import pytest

from opt_runtime.local.cluster import LOOPBACK, kept_port
from opt_runtime.wire import Client, Gone, Server

pytestmark = pytest.mark.unit


def test_a_kept_port_is_for_the_program_that_is_told_of_it_and_for_nobody_else() -> None:
    with kept_port(LOOPBACK) as kept, socket.socket() as other:
        address = "{}:{}".format(*kept.getsockname())
        with pytest.raises(OSError, match="in use"):
            other.bind(kept.getsockname())
        with pytest.raises(Gone):
            Client(address, timeout_s=5.0).ask("GET", "/")
        for start in range(2):
            server = Server(address, {("GET", "/"): lambda _, start=start: (200, "text/plain", b"%d" % start)})
            server.start()
            client = Client(address, timeout_s=5.0)
            assert client.ask("GET", "/") == b"%d" % start
            client.close()
            server.stop()


def test_a_port_is_free_again_when_it_is_no_longer_kept() -> None:
    with kept_port(LOOPBACK) as kept:
        place = kept.getsockname()
    with socket.socket() as other:
        other.bind(place)
