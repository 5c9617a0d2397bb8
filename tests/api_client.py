"""Requests to an app without a server: httpx over ASGI, whatever versions of the two there are."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import anyio._backends._asyncio  # noqa: F401 -- else pytest rewrites it in a thread, at which Python 3.11 can stumble
import httpx

from lib_embedmerge.hosts.port import Host

PREFIX = "/embedmerge/v1"

Ask = Callable[..., httpx.Response]


def make_app(host: Callable[[], Host], logins: Mapping[str, str] | None = None) -> Any:
    """An app with the API of a host. host: gives it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what fastapi says of others; ours is imported below
        from fastapi import FastAPI

    from lib_embedmerge.api.adding import add_api

    app = FastAPI()
    add_api(app, host, logins or {})
    return app


def api_of(host: Host, logins: Mapping[str, str] | None = None) -> Ask:
    """What asks the API of a host. To make an app takes a good part of a second, so there is one for each set of logins
    in all tests: it serves the host that was named last."""
    served = _served(tuple((logins or {}).items()))
    served.host = host
    return partial(ask, served.app)


class _Served:
    """An app, and which host it serves."""

    def __init__(self, logins: Mapping[str, str]) -> None:
        self.host: Host | None = None
        self.app = make_app(self._host_now, logins)

    def _host_now(self) -> Host:
        assert self.host is not None
        return self.host


@cache
def _served(logins: tuple[tuple[str, str], ...]) -> _Served:
    return _Served(dict(logins))


def ask(app: Any, method: str, path: str, **options: Any) -> httpx.Response:
    """One request; options as of httpx. A fault that the app does not answer is raised."""

    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            return await client.request(method, PREFIX + path, **options)

    # Not in this thread: in the one session of all tests a browser's event loop runs here.
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, asked()).result(600)
