"""What the page of its own serves: what the page needs, and of what gradio serves beside that nothing.

gradio hands out files of its cache, takes uploads of any size and shows them as pages, and fetches addresses for
whoever asks, whether the page has a use for it or not. Here a request passes that the page's own script could have
sent; all others are answered as if there were no such route. What comes back is a page that asks no other machine for
anything.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from lib_embedmerge.api import PREFIX
from lib_embedmerge.ui.dropped import MAX_DROPPED
from lib_embedmerge.ui.refusing import refuse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = MAX_DROPPED * 4 // 3 + 1_000_000
"""Bytes of a request: a dropped file in base64, and what comes with it."""

_READ = re.compile(
    r"/|/(config|theme\.css|robots\.txt|favicon\.ico|info|user|login_check|token|app_id|openapi\.json)/?"
    r"|/(static|assets)/[^?#]*|/heartbeat/[\w-]+"
)
"""What gradio's script reads, in either version."""

_EVENTS = re.compile(r"/(run|api)/[\w-]+/?")
"""Where it sends the page's events; none of them waits in gradio's queue."""

_RESET = re.compile(r"/reset/?")

_FOREIGN = re.compile(
    rb"""<link\b[^>]*\bhref="https?://[^>]*>|<script\b[^>]*\bsrc="https?://[^>]*>\s*</script\s*>""", re.IGNORECASE
)
"""Elements at which a browser connects to another machine: fonts, and a script for pages inside of others."""

_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
"""What a browser is told to load, and from where: all from here. gradio makes functions out of texts."""


class OwnRoutesOnly:
    """ASGI middleware: 404 where the page has no use for a route, 413 and 422 for what its script never sends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path.startswith(PREFIX + "/"):
            await self._app(scope, receive, send)
        elif method in {"GET", "HEAD"} and _READ.fullmatch(path) and ".." not in path:
            await self._app(scope, receive, _without_foreign(send) if path == "/" else send)
        elif method == "POST" and _EVENTS.fullmatch(path):
            await self._event(scope, receive, send)
        elif method == "POST" and _RESET.fullmatch(path):
            await self._app(scope, receive, send)
        else:
            await refuse(send, 404, "This page does not exist.")

    async def _event(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An event whose values are texts and choices; no file, by whatever name, is among the page's widgets."""
        body = await _body(receive)
        if body is None:
            await refuse(send, 413, f"The request is larger than {LARGEST_BODY:,} bytes.")
        elif not _is_plain_event(body):
            await refuse(send, 422, "Request refused: this page does not send such requests.")
        else:
            await self._app(scope, _again(body, receive), send)


async def _body(receive: Receive) -> bytes | None:
    """A request's body; None where it is too large, of which the rest is not read."""
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":  # nobody waits for the answer
            return b""
        piece, more = message.get("body", b""), message.get("more_body", False)
        size += len(piece)
        if size > LARGEST_BODY:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _again(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read already, and then what comes after it."""
    left = [body]

    async def received() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return received


def _is_plain_event(body: bytes) -> bool:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(told, dict) or not isinstance(told.get("data"), list):
        return False
    others = {key: value for key, value in told.items() if key != "data"}
    return all(map(_is_plain, told["data"])) and not any(isinstance(value, dict | list) for value in others.values())


def _is_plain(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, str) for one in value)
    return not isinstance(value, dict)


def _without_foreign(send: Send) -> Send:
    """What sends a page on without what would have a browser ask other machines."""
    started: list[Message] = []
    pieces: list[bytes] = []

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.append(message)
            return
        pieces.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        body = _FOREIGN.sub(b"", b"".join(pieces))
        kept = [(name, value) for name, value in started[0]["headers"] if name.lower() != b"content-length"]
        # Of the answer to HEAD there is no more than the length of what GET would give.
        length = [(b"content-length", str(len(body)).encode("ascii"))] if body else []
        more = [(b"content-security-policy", _POLICY.encode("ascii")), (b"x-content-type-options", b"nosniff")]
        await send({**started[0], "headers": [*kept, *length, *more]})
        await send({"type": "http.response.body", "body": body})

    return sent
