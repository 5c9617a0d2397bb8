"""Checks around each route: the login, the size of the request, and the answers to errors.

The routes do this themselves, so that the web UI's own routes and error handlers do not change.
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
"""Bytes of the largest request."""

_LONGEST_FAULT = 200
"""Characters of a sentence about an invalid request."""

_KNOWN_LOGIN = "a login that was given with --api-auth, in SD.Next with --auth or --auth-file"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class _Basic(HTTPBasic):
    """Shows in /docs that there is a login. It reads none: fastapi's own class would only accept ASCII."""

    async def __call__(self) -> None:  # type: ignore[override]  # no request is needed
        """Do nothing."""


basic = _Basic(auto_error=False, description=f"This must be {_KNOWN_LOGIN}.")


class AsciiJson(JSONResponse):
    """A plain value as JSON in ASCII, because texts can contain lone surrogates, which UTF-8 cannot encode."""

    def render(self, content: object) -> bytes:
        """The value as bytes."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def make_guarded_route(logins: Mapping[str, str]) -> type[APIRoute]:
    """A class of routes that check requests. logins: user -> password of those who may use them; none for everyone."""

    class GuardedRoute(_Route):
        def get_route_handler(self) -> Handler:
            inner = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                try:
                    if logins and not has_login(request.headers.get("authorization"), logins):
                        message = "The login is missing or wrong."
                        raise RefusedError(LOGIN, message, hint=f"Use {_KNOWN_LOGIN}.")
                    return await inner(await _read_request(request))
                except EmbedMergeError as error:
                    error.word_remedy(REMEDIES)
                    return _make_refusal(error)
                except RequestValidationError as error:
                    return _make_refusal(RefusedError(WRONG, _describe_fault(error)))
                except HTTPException:  # from fastapi, for a body that is not JSON
                    return _make_refusal(RefusedError(WRONG, "The request is not valid JSON."))
                except ClientDisconnect:  # nobody reads this answer
                    return _make_refusal(RefusedError(WRONG, "The connection was closed too early."))
                except Exception:  # noqa: BLE001 -- a bug: it is logged, and the answer has one sentence
                    _log.exception(UNEXPECTED)
                    return _make_refusal(RefusedError(BUG, UNEXPECTED, hint=UNEXPECTED_HINT))

            return guarded

    return GuardedRoute


def _make_refusal(error: EmbedMergeError, headers: Mapping[str, str] | None = None) -> Response:
    status = find_status(error)
    if status == LOGIN:
        headers = {"WWW-Authenticate": "Basic"}
    return AsciiJson({"error": error.as_json()}, status_code=status, headers=dict(headers or {}))


class _Route(APIRoute):
    """A route whose refusal of a method names all methods of its path. starlette only names those of one route."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for this path, with any method."""
        if scope["method"] in self.methods:
            await super().handle(scope, receive, send)
            return
        routes = (route for route in scope["app"].router.routes if isinstance(route, _Route))
        allowed = ", ".join(sorted(method for route in routes if route.path == self.path for method in route.methods))
        refused = _make_refusal(RefusedError(METHOD, f"This address accepts only {allowed}."), {"Allow": allowed})
        await refused(scope, receive, send)


async def _read_request(request: Request) -> Request:
    """The request with its body read. RefusedError if the body is too large or not JSON.

    Requiring JSON keeps pages of other sites out: a browser asks a site for permission before it sends JSON to it.
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


def _describe_fault(error: RequestValidationError) -> str:
    """The first error in a request, as a sentence, which does not repeat the values of the request."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part not in {"body", "query"})
    sentence = f"{field}: {first['msg']}." if field else f"{first['msg']}."
    return escape_unprintable(sentence)[:_LONGEST_FAULT]
