"""Refuses requests to the page of its own that come from pages of other sites.

gradio accepts every request that a browser sends, and version 3 lets every page read the answers. Any page that is open
in a browser can reach a server on the same machine: by its address, or, if the name of a site is made to resolve to
this machine (DNS rebinding), by that name.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lib_embedmerge.ui.refusing import refuse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_REFUSAL = "Request refused: it came from another website or used an unknown host name."


class OwnPagesOnly:
    """ASGI middleware that answers 403 if the headers say that the request comes from another site."""

    def __init__(self, app: ASGIApp, address: str, *, any_name: bool = False) -> None:
        """address: the address at which the server listens.

        any_name: whether requests may use any host name. Only for a server that asks for a login or token.
        """
        self._app = app
        self._any_name = any_name
        self._names = {"localhost", socket.gethostname().lower(), address.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in {"http", "websocket"} or self._is_own(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await refuse(send, 403, _REFUSAL)

    def _is_own(self, scope: Scope) -> bool:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if not self._any_name and not self._is_own_name(host):
            return False
        if _is_navigation(scope, headers):
            return True
        origin = headers.get("origin")
        if origin is not None and _read_netloc(origin) != host.lower():
            return False
        return headers.get("sec-fetch-site", "none") in {"none", "same-origin"}

    def _is_own_name(self, host: str) -> bool:
        """Whether a Host header names the server by an IP address or by one of the machine's names."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or name.removesuffix(".local") in self._names or _is_ip(name)


def _is_navigation(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Whether the request opens the page in a browser, for example by a link, which any site may have."""
    is_get = scope["type"] == "http" and scope["method"] in {"GET", "HEAD"}
    return is_get and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _read_netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_ip(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
