"""How the server of the page of its own refuses a request."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Send

Headers = Iterable[tuple[bytes, bytes]]


async def refuse(send: Send, status: int, message: str, headers: Headers = ()) -> None:
    """Answer with a status, and an error as the HTTP API has one."""
    body = json.dumps({"error": {"message": message}}).encode("ascii")
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode("ascii"))]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": body})
