"""Refusals of requests by the server of the page of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Send

Headers = Iterable[tuple[bytes, bytes]]


async def refuse(send: Send, status: int, message: str, headers: Headers = ()) -> None:
    """Answer a request with an HTTP status and an error message in JSON, in the form that the HTTP API uses."""
    body = json.dumps({"error": {"message": message}}).encode("ascii")
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode("ascii"))]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})
