"""Access to the page of its own when other machines can reach it: only with its login or the token in its address.

After the first request with either, the browser has a cookie that it keeps until it is closed.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from lib_embedmerge.api.logins import has_login
from lib_embedmerge.ui.refusing import refuse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PARAMETER = "token"
_COOKIE = "embedmerge"
_ASK = (b"www-authenticate", b'Basic realm="EmbedMerge", charset="UTF-8"')


@dataclass(frozen=True)
class Key:
    """What gives access to the page: a login (user, password), or a token."""

    login: tuple[str, str] | None = None
    token: str | None = None

    @classmethod
    def new_token(cls) -> Key:
        """A key with a random token that nobody can guess."""
        return cls(token=secrets.token_urlsafe(24))


class Entrance:
    """ASGI middleware that answers 401 if a request has neither the key nor the cookie."""

    def __init__(self, app: ASGIApp, key: Key, port: int) -> None:
        """port: the server's port, which is in the cookie's name: browsers send cookies to all ports of a machine."""
        self._app = app
        self._key = key
        self._cookie = f"{_COOKIE}-{port}"
        self._pass = secrets.token_urlsafe(32)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        is_in_address = self._has_token([value for name, value in query if name == _PARAMETER])
        if is_in_address and scope["type"] == "http" and scope["path"] == "/":
            rest = urlencode([(name, value) for name, value in query if name != _PARAMETER])
            await self._let_in(send, "/?" + rest if rest else "/")
        elif is_in_address or self._has_pass(headers) or self._has_bearer(headers):
            await self._app(scope, receive, send)
        elif self._has_login(headers):
            await self._app(scope, receive, self._with_cookie(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif self._key.login:
            await refuse(send, 401, "The login is missing or wrong.", [_ASK])
        else:
            message = (
                "Open this page with the full address that EmbedMerge printed at its start, which contains a token."
            )
            await refuse(send, 401, message)

    def _has_login(self, headers: dict[bytes, str]) -> bool:
        return bool(self._key.login) and has_login(headers.get(b"authorization"), dict([self._key.login or ("", "")]))

    def _has_bearer(self, headers: dict[bytes, str]) -> bool:
        scheme, _, token = headers.get(b"authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._has_token([token.strip()])

    def _has_token(self, candidates: list[str]) -> bool:
        token = self._key.token
        return token is not None and any(_is_same(candidate, token) for candidate in candidates)

    def _has_pass(self, headers: dict[bytes, str]) -> bool:
        try:
            cookie = SimpleCookie(headers.get(b"cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and _is_same(cookie.value, self._pass)

    def _make_cookie_header(self) -> tuple[bytes, bytes]:
        # Lax: links from other sites to the page work, but other sites cannot send requests with the cookie.
        cookie = f"{self._cookie}={self._pass}; Path=/; HttpOnly; SameSite=Lax"
        return b"set-cookie", cookie.encode("ascii")

    async def _let_in(self, send: Send, location: str) -> None:
        """Redirect to the page with the cookie and without the token in the address, where bystanders could read it."""
        headers = [(b"location", location.encode("ascii")), self._make_cookie_header(), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _with_cookie(self, send: Send) -> Send:
        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), self._make_cookie_header()]}
            await send(message)

        return send_with_cookie


def _is_same(candidate: str, secret: str) -> bool:
    """Whether two texts are equal, compared in constant time."""
    return secrets.compare_digest(candidate.encode("utf-8", "replace"), secret.encode("utf-8"))
