"""A replica that computes nothing: it speaks the server's protocol, at a pace, and drains and dies as one does.

`python paced_server.py PORT`, with the name it goes by in OPT_SERVE_INSTANCE.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import uvicorn

PACE_S = 0.02
state: dict[str, Any] = {"phase": "ready", "running": 0, "most": 1000}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    path, body = scope["path"], b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if path == "/health":
        word = {"status": state["phase"], "instance": os.environ.get("OPT_SERVE_INSTANCE")}
        await answer(send, 200 if state["phase"] == "ready" else 503, word)
    elif path == "/running":
        await answer(send, 200, state)
    elif path == "/v1/models":
        await answer(send, 200, {"data": [{"id": "tiny", "max_model_len": 256}]})
    elif path == "/v1/completions":
        await completion(json.loads(body), receive, send)
    else:
        await answer(send, 404, {"error": {"code": "none"}})


async def completion(wanted: dict[str, Any], receive: Any, send: Any) -> None:
    if state["phase"] != "ready":
        await answer(send, 503, {"error": {"code": state["phase"]}})
    elif state["running"] >= int(os.environ.get("MOST", "1000")):
        await answer(send, 429, {"error": {"code": "queue_full"}})
    elif wanted.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    elif wanted.get("fail"):
        await answer(send, 500, {"error": {"code": "internal"}})
    else:
        state["running"] += 1
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            await tokens(wanted, send, gone)
        finally:
            state["running"] -= 1
            gone.cancel()


async def tokens(wanted: dict[str, Any], send: Any, gone: asyncio.Future[None]) -> None:
    count, stream = wanted.get("max_tokens", 4), wanted.get("stream", False)
    if stream:
        head = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
    for number in range(count):
        await asyncio.sleep(PACE_S)
        if gone.done():
            return
        if stream:
            text = json.dumps({"choices": [{"text": f" {number}"}]})
            await send({"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": True})
    if stream:
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
    else:
        await answer(send, 200, {"choices": [{"text": "".join(f" {n}" for n in range(count))}]})


async def disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(send: Any, status: int, document: dict[str, Any]) -> None:
    head = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": json.dumps(document).encode()})


class Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: Any) -> None:
        state["phase"] = "draining"
        asyncio.get_running_loop().create_task(self.drain())

    async def drain(self) -> None:
        while state["running"]:  # noqa: ASYNC110 - as the server does it
            await asyncio.sleep(0.02)
        self.should_exit = True


if __name__ == "__main__":
    Server(uvicorn.Config(app, port=int(sys.argv[1]), log_level="error", lifespan="off")).run()
