"""Requests to an ASGI app without a server, in a thread: other tests may have an event loop running in this one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

TIMEOUT = 60


@dataclass
class Answer:
    """What came back. messages: all of them, as they were sent."""

    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> int | None:
        return next((one["status"] for one in self.messages if one["type"] == "http.response.start"), None)

    @property
    def headers(self) -> dict[str, str]:
        pairs = next(one["headers"] for one in self.messages if one["type"] == "http.response.start")
        return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in pairs}

    @property
    def body(self) -> bytes:
        return b"".join(one.get("body", b"") for one in self.messages if one["type"] == "http.response.body")


def ask(
    app: Any, headers: Mapping[str, str] | None = None, body: Sequence[bytes] | None = (b"",), **scope: Any
) -> Answer:
    """Send one request, its body in these pieces; None where the client is gone before it has sent any."""
    answer, left = Answer(), list(body or ())

    async def receive() -> dict[str, Any]:
        if not left:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: dict[str, Any]) -> None:
        answer.messages.append(message)

    async def run() -> None:
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
        asked = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": encoded, **scope}
        await app(asked, receive, send)

    with ThreadPoolExecutor(1) as threads:
        threads.submit(asyncio.run, run()).result(TIMEOUT)
    return answer


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An app that answers with what it was sent."""
    body, more = b"", scope["type"] == "http"
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
