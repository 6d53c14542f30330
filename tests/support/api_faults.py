"""A proxy in front of a real API server that loses, delays and replaces answers, over real TLS sockets.

A client gets to it by `ApiFaults.kubeconfig`. It acts upstream as the user of the kubeconfig it was made with. Each
connection carries one request, so a rule sees every request; watches and exec streams pass through unchanged.
"""

import contextlib
import re
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from optcluster import kubeconfig
from optcluster.api import Api
from optcluster.pki import Pair

HEAD_LIMIT = 1 << 20
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close() sends RST, see socket(7)


class Effect(Enum):
    """What happens to a request that a fault matches."""

    ANSWER = "the fault's own answer is given, and the server never sees the request"
    LOSE_ANSWER = "the server does what was asked, and the connection breaks before the client hears of it"
    DELAY = "the answer is held back for the fault's seconds"


@dataclass
class Fault:
    """A rule: which requests it takes (regular expressions, whole match), what happens, and how many times."""

    effect: Effect
    method: str = ".*"
    path: str = ".*"
    times: int | None = None
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    hits: int = 0

    def takes(self, method: str, path: str) -> bool:
        """Whether the rule applies to this request."""
        if self.times is not None and self.hits >= self.times:
            return False
        return bool(re.fullmatch(self.method, method) and re.fullmatch(self.path, path))


class ApiFaults:
    """The proxy. Use it as a context manager."""

    def __init__(self, source: Path, serving: Pair, folder: Path) -> None:
        self._upstream = Api.from_kubeconfig(source)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(serving.cert, serving.key)
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._open: set[socket.socket] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]
        self.kubeconfig = kubeconfig.redirected(source, folder / "faults.kubeconfig", f"https://127.0.0.1:{self.port}")

    def __enter__(self) -> "ApiFaults":
        return self

    def __exit__(self, *_: object) -> None:
        self._flowing.set()
        self._close_listener()
        self.cut()

    @contextmanager
    def fault(self, fault: Fault) -> Iterator[Fault]:
        """The rule holds inside the block; earlier rules come first."""
        with self._lock:
            self._faults.append(fault)
        try:
            yield fault
        finally:
            with self._lock:
                self._faults.remove(fault)

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Inside the block no byte reaches any client, while every connection stays open; then all flows on."""
        self._flowing.clear()
        try:
            yield
        finally:
            self._flowing.set()

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Inside the block connections are refused; those that were open are broken."""
        self._close_listener()
        self.cut()
        try:
            yield
        finally:
            self._listener = self._listen(self.port)

    def cut(self) -> None:
        """Breaks every open connection."""
        with self._lock:
            for connection in self._open:
                _reset(connection)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _close_listener(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(raw,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        with self._tracked(raw), contextlib.suppress(OSError, ValueError), self._secured(raw) as client:
            head, rest = _read_head(client)
            method, path = head.split(b" ", 2)[:2]
            fault = self._choose(method.decode(), urlsplit(path.decode()).path)
            if fault and fault.effect is Effect.ANSWER:
                _read_body(client, head, rest)  # closing a connection with unread bytes would reset it
                client.sendall(_answer(fault))
            else:
                self._pass_on(client, _one_request(head) + rest, fault)

    def _secured(self, raw: socket.socket) -> ssl.SSLSocket:
        try:
            return self._tls.wrap_socket(raw, server_side=True)
        except OSError:
            raw.close()
            raise

    @contextmanager
    def _tracked(self, raw: socket.socket) -> Iterator[None]:
        duplicate = raw.dup()  # wrap_socket() takes `raw` away; this one can reset the connection from outside
        with self._lock:
            self._open.add(duplicate)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(duplicate)
            duplicate.close()

    def _choose(self, method: str, path: str) -> Fault | None:
        with self._lock:
            fault = next((one for one in self._faults if one.takes(method, path)), None)
            if fault:
                fault.hits += 1
            return fault

    def _pass_on(self, client: ssl.SSLSocket, request: bytes, fault: Fault | None) -> None:
        with self._upstream.connect() as server:
            server.sendall(request)
            peers = {client: server, server: client}
            while True:
                for source in [one for one in peers if one.pending()] or select.select(list(peers), [], [], 1)[0]:
                    data = _read_now(source)
                    if data is None:
                        continue
                    if not data or (source is server and self._loses(fault, client)):
                        return
                    peers[source].sendall(data)
                    if source is server:
                        fault = None  # it was for the beginning of the answer

    def _loses(self, fault: Fault | None, client: ssl.SSLSocket) -> bool:
        """Does to the answer that has just come what `fault` asks; true when it goes no further."""
        if fault and fault.effect is Effect.LOSE_ANSWER:
            _reset(client)
            return True
        if fault and fault.effect is Effect.DELAY:
            time.sleep(fault.seconds)
        self._flowing.wait()
        return False


def _read_now(source: ssl.SSLSocket) -> bytes | None:
    """What has come; None if that was only part of a record. One thread reads and writes: OpenSSL wants it so."""
    source.settimeout(0)
    try:
        return source.recv(65536)
    except ssl.SSLWantReadError:
        return None
    finally:
        source.settimeout(None)


def _read_head(client: ssl.SSLSocket) -> tuple[bytes, bytes]:
    seen = b""
    while b"\r\n\r\n" not in seen:
        chunk = client.recv(65536)
        if not chunk or len(seen) > HEAD_LIMIT:
            raise ValueError("no whole request head")
        seen += chunk
    head, _, rest = seen.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _read_body(client: ssl.SSLSocket, head: bytes, rest: bytes) -> None:
    length = re.search(rb"(?im)^content-length: *([0-9]+)", head)
    missing = int(length[1]) - len(rest) if length else 0
    while missing > 0 and (chunk := client.recv(min(missing, 65536))):
        missing -= len(chunk)


def _one_request(head: bytes) -> bytes:
    """Asks the server to close after its answer, unless the client changes protocols (exec, port-forward)."""
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if any(line.lower().startswith(b"upgrade:") for line in lines):
        return head
    kept = [line for line in lines if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*kept, b"Connection: close"]) + b"\r\n\r\n"


def _answer(fault: Fault) -> bytes:
    body = b'{"kind":"Status","apiVersion":"v1","status":"Failure","message":"injected","code":%d}' % fault.status
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    fields = [f"{name}: {value}" for name, value in (headers | fault.headers).items()]
    lines = [f"HTTP/1.1 {fault.status} Injected", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.shutdown(socket.SHUT_RDWR)
