"""Limits the page of its own to the routes of gradio that it needs.

gradio also hands out files of its cache, accepts uploads of any size and shows them as pages, and fetches addresses for
anyone who asks. Here only requests that the page's own script could have sent pass. All others are answered as if the
route did not exist. The page is changed so that it loads nothing from other machines.
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
"""Bytes of the largest request: a dropped file in base64, and the other fields of the event."""

_READ = re.compile(
    r"/|/(config|theme\.css|robots\.txt|favicon\.ico|info|user|login_check|token|app_id|openapi\.json)/?"
    r"|/(static|assets)/[^?#]*|(/gradio_api)?/heartbeat/[\w-]+"
)
"""Routes that gradio's script reads, in versions 3 to 6."""

_EVENTS = re.compile(r"(/gradio_api)?/(run|api)/[\w-]+/?")
"""Routes to which it sends the page's events, since version 5 with a prefix. No event uses gradio's queue."""

_RESET = re.compile(r"(/gradio_api)?/reset/?")

_EXTERNAL = re.compile(
    rb"""<link\b[^>]*\bhref="https?://[^>]*>|<script\b[^>]*\bsrc="https?://[^>]*>\s*</script\s*>""", re.IGNORECASE
)
"""Elements that make a browser connect to other machines: fonts, and a script for pages that are embedded in others."""

_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
"""Content security policy: everything is loaded from this server. gradio needs unsafe-eval to run scripts of events."""


class OwnRoutesOnly:
    """ASGI middleware: 404 for routes that the page does not need, 413 or 422 for requests that it never sends."""

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
            await self._app(scope, receive, _remove_external(send) if path == "/" else send)
        elif method == "POST" and _EVENTS.fullmatch(path):
            await self._pass_event(scope, receive, send)
        elif method == "POST" and _RESET.fullmatch(path):
            await self._app(scope, receive, send)
        else:
            await refuse(send, 404, "This page does not exist.")

    async def _pass_event(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an event on if its values are texts and choices. Others are refused: no widget has a file."""
        body = await _read_body(receive)
        if body is None:
            await refuse(send, 413, f"The request is larger than {LARGEST_BODY:,} bytes.")
        elif not _is_plain_event(body):
            await refuse(send, 422, "Request refused: this page does not send such requests.")
        else:
            await self._app(scope, _replay(body, receive), send)


async def _read_body(receive: Receive) -> bytes | None:
    """The body of a request, or None if it has more than LARGEST_BODY bytes; the rest is not read then."""
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":  # the client has disconnected
            return b""
        piece, more = message.get("body", b""), message.get("more_body", False)
        size += len(piece)
        if size > LARGEST_BODY:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` function that gives a body that was already read, then the messages after it."""
    unread = [body]

    async def receive_again() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return receive_again


def _is_plain_event(body: bytes) -> bool:
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return False
    if not isinstance(event, dict) or not isinstance(event.get("data"), list):
        return False
    others = {key: value for key, value in event.items() if key != "data"}
    has_plain_data = all(map(_is_plain_value, event["data"]))
    return has_plain_data and not any(isinstance(value, dict | list) for value in others.values())


def _is_plain_value(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(choice, str) for choice in value)
    return not isinstance(value, dict)


def _remove_external(send: Send) -> Send:
    """A `send` function that removes _EXTERNAL elements from a page and adds the content security policy."""
    started: list[Message] = []
    pieces: list[bytes] = []

    async def send_filtered(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.append(message)
            return
        pieces.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        body = _EXTERNAL.sub(b"", b"".join(pieces))
        kept = [(name, value) for name, value in started[0]["headers"] if name.lower() != b"content-length"]
        # The answer to HEAD has no body, and so no Content-Length of the changed page.
        length = [(b"content-length", str(len(body)).encode("ascii"))] if body else []
        more = [(b"content-security-policy", _POLICY.encode("ascii")), (b"x-content-type-options", b"nosniff")]
        await send({**started[0], "headers": [*kept, *length, *more]})
        await send({"type": "http.response.body", "body": body})

    return send_filtered
