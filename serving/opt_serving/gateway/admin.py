"""The port for the operator, the kubelet and scrapers: nothing can be changed through it."""

from __future__ import annotations

from typing import Any

from opt_serving.gateway.answer import Answer, Send
from opt_serving.gateway.metrics import CONTENT_TYPE, Metrics
from opt_serving.gateway.proxy import Proxy, Receive, Scope
from opt_serving.gateway.table import Table


class Admin:
    """An ASGI application: `/status`, `/healthz`, `/metrics`."""

    def __init__(self, table: Table, proxy: Proxy, metrics: Metrics) -> None:
        self._table, self._proxy, self._metrics = table, proxy, metrics
        metrics.watch(lambda: proxy.in_flight, lambda: proxy.held)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        answer = Answer(send, close=False)
        path = scope["path"]
        if path == "/metrics":
            text = self._metrics.text()
            headers = [(b"content-type", CONTENT_TYPE), (b"content-length", str(len(text)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": text})
        elif path == "/healthz":
            good = self._table.routes is not None and not self._proxy.leaving
            await answer.document(200 if good else 503, {"status": self._proxy.state})
        elif path == "/status":
            await answer.document(200, self.status())
        else:
            await answer.document(404, {"error": f"no such page: {path}; there are /status, /healthz and /metrics"})

    def status(self) -> dict[str, Any]:
        """What the operator decides on."""
        table, proxy = self._table, self._proxy
        flights: dict[str, int] = {}
        for endpoint in table.endpoints.values():
            flights[str(endpoint.revision)] = flights.get(str(endpoint.revision), 0) + endpoint.in_flight
        return {
            "generation": table.routes.generation if table.routes else 0,
            "state": proxy.state,
            "held": proxy.held,
            "inFlight": proxy.in_flight,
            "demand": proxy.held + proxy.in_flight,
            "revisions": {
                name: {"requests": count.requests, "failures": count.failures, "inFlight": flights.get(name, 0)}
                for name, count in table.counts.items()
            },
            "endpoints": {endpoint.address: endpoint.state for endpoint in table.endpoints.values()},
        }
