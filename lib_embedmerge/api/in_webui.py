"""The API in a web UI: only if the web UI's own API is on, and with its logins.

The routes and their models take 0.2 s and more to make, so they are made at the first request for one of them, or when
somebody opens the web UI's /docs. Until then there is one route for all of their paths.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lib_embedmerge.api import PREFIX, remove_routes
from lib_embedmerge.hosts.webui.api_options import is_api_enabled, read_logins

if TYPE_CHECKING:
    from fastapi import FastAPI

    from lib_embedmerge.hosts.port import Host


def add_webui_api(app: FastAPI, host: Callable[[], Host]) -> None:
    """Add the API to the web UI's app, in place of an older one, if the web UI was started with --api."""
    if is_api_enabled():
        _DeferredApi(app, host, read_logins()).install()


class _DeferredApi:
    """An ASGI app that makes the routes at its first request, and answers with them."""

    def __init__(self, app: FastAPI, host: Callable[[], Host], logins: Mapping[str, str]) -> None:
        """host: returns the host; called at each request.  logins: user -> password; none if everyone may use it."""
        self._app = app
        self._host = host
        self._logins = logins
        self._make_schema = app.openapi

    def install(self) -> None:
        """Put the one route in place of an older API, and see to it that the app's schema has all routes."""
        from starlette.routing import Route

        remove_routes(self._app)
        self._route = Route(PREFIX + "/{path:path}", self, include_in_schema=False)
        self._app.router.routes.append(self._route)
        self._app.openapi = self._describe  # type: ignore[method-assign] # as fastapi's documentation does

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer a request for any of the routes."""
        self._make_routes()
        await self._app.router(scope | {"path_params": {}}, receive, send)

    def _describe(self) -> dict[str, Any]:
        """The app's OpenAPI schema, with these routes."""
        self._make_routes()
        return self._make_schema()

    def _make_routes(self) -> None:
        """Put the routes in place of the one. Does nothing if that is done, or if a newer API has taken its place."""
        if self._route in self._app.router.routes:
            from lib_embedmerge.api.adding import add_api

            add_api(self._app, self._host, self._logins)
