"""The HTTP API for scripts, in a web UI and in `embedmerge serve`. Its answers are the JSON of the command line.

    refused_requests   reasons to refuse a request, and their HTTP statuses
    named_files        the files that a request may name
    logins             whether a request has a valid login
    guard              checks around each route: login, size, errors
    schemas            requests and answers, as /docs shows them
    routes             the functions of the routes
    adding             adds the routes to an app
    in_webui           adds them to a web UI, if its own API is on

fastapi and pydantic are only imported when the routes are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

PREFIX = "/embedmerge/v1"
"""The beginning of the paths of all routes."""


def remove_routes(app: FastAPI) -> None:
    """Remove the API from an app, if it has it."""
    for route in [route for route in app.router.routes if getattr(route, "path", "").startswith(PREFIX + "/")]:
        app.router.routes.remove(route)
    app.openapi_schema = None  # so that /docs is made again
