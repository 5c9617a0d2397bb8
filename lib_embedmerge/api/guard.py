"""What is done around each route: who may call it, how much is read, and how errors are answered.

It is done by the routes themselves, so that the web UI's own routes and its handlers of errors stay as they are.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.requests import Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBasic
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from lib_embedmerge.api.logins import has_login
from lib_embedmerge.api.refused_requests import (
    BUG,
    LOGIN,
    METHOD,
    NOT_JSON,
    REMEDIES,
    TOO_LARGE,
    WRONG,
    RefusedError,
    find_status,
)
from lib_embedmerge.errors import UNEXPECTED, UNEXPECTED_HINT, EmbedMergeError, escape_unprintable

_log = logging.getLogger(__name__)

MAX_BODY = 1_000_000
"""Bytes of a request."""

_LONGEST_FAULT = 200

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class _Basic(HTTPBasic):
    """What tells /docs that there is a login. fastapi's own reads ASCII alone."""

    async def __call__(self) -> None:  # type: ignore[override]  # it needs to know nothing
        """Nothing."""


basic = _Basic(auto_error=False, description="A login that was given with --api-auth.")


class Answer(JSONResponse):
    """A plain value as JSON. All of it is ASCII, for texts can hold what UTF-8 has no bytes for."""

    def render(self, content: object) -> bytes:
        """The bytes."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def guarded_route(logins: Mapping[str, str]) -> type[APIRoute]:
    """The class of routes that only these may call. logins: user -> password; none for everyone."""

    class GuardedRoute(_Route):
        def get_route_handler(self) -> Handler:
            inner = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                try:
                    if logins and not has_login(request.headers.get("authorization"), logins):
                        message = "The login is missing or wrong."
                        raise RefusedError(LOGIN, message, hint="Use a login that was given with --api-auth.")
                    return await inner(await _read(request))
                except EmbedMergeError as error:
                    error.word_remedy(REMEDIES)
                    return _refusal(error)
                except RequestValidationError as error:
                    return _refusal(RefusedError(WRONG, _fault(error)))
                except HTTPException:  # fastapi's, of a body that is no JSON that could be read
                    return _refusal(RefusedError(WRONG, "The request is not valid JSON."))
                except ClientDisconnect:  # nobody is there to be answered
                    return _refusal(RefusedError(WRONG, "The connection was closed too early."))
                except Exception:  # noqa: BLE001 -- the one catch of this face: a bug of ours is logged, told in a sentence
                    _log.exception(UNEXPECTED)
                    return _refusal(RefusedError(BUG, UNEXPECTED, hint=UNEXPECTED_HINT))

            return guarded

    return GuardedRoute


def _refusal(error: EmbedMergeError, headers: Mapping[str, str] | None = None) -> Response:
    status = find_status(error)
    if status == LOGIN:
        headers = {"WWW-Authenticate": "Basic"}
    return Answer({"error": error.as_json()}, status_code=status, headers=dict(headers or {}))


class _Route(APIRoute):
    """A route that refuses other methods with the names of those that its path takes; starlette's name their own."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of this path, whatever its method."""
        if scope["method"] in self.methods:
            await super().handle(scope, receive, send)
            return
        routes = (route for route in scope["app"].router.routes if isinstance(route, _Route))
        allowed = ", ".join(sorted(method for route in routes if route.path == self.path for method in route.methods))
        refused = _refusal(RefusedError(METHOD, f"This address accepts only {allowed}."), {"Allow": allowed})
        await refused(scope, receive, send)


async def _read(request: Request) -> Request:
    """The request with its body read. RefusedError where that is too large, or something other than JSON.

    A browser sends JSON to another site only after it has asked that site; so no page can have it send a request here.
    """
    size, pieces = 0, []
    async for piece in request.stream():
        size += len(piece)
        if size > MAX_BODY:
            message = f"The request is larger than {MAX_BODY:,} bytes."
            raise RefusedError(TOO_LARGE, message, hint="Send less at once.")
        pieces.append(piece)
    body = b"".join(pieces)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media_type != "application/json":
        raise RefusedError(NOT_JSON, "The request is not JSON.", hint="Send it as application/json.")

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)


def _fault(error: RequestValidationError) -> str:
    """The first fault of a request, in a sentence. What was sent is not repeated."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part not in {"body", "query"})
    said = f"{place}: {first['msg']}." if place else f"{first['msg']}."
    return escape_unprintable(said)[:_LONGEST_FAULT]
