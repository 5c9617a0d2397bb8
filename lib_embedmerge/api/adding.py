"""The routes in an app: a web UI's, or that of the page of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute

from lib_embedmerge.api import PREFIX, schemas
from lib_embedmerge.api.guard import basic, guarded_route
from lib_embedmerge.api.refused_requests import LOGIN, STATUSES
from lib_embedmerge.api.routes import Routes
from lib_embedmerge.hosts.port import Host


def add_api(app: FastAPI, host: Callable[[], Host], logins: Mapping[str, str]) -> None:
    """Add the API to an app, in place of an older one. logins: as in `guarded_route`."""
    older = [route for route in app.router.routes if getattr(route, "path", "").startswith(PREFIX + "/")]
    for route in older:
        app.router.routes.remove(route)
    app.include_router(_router(Routes(host), logins, guarded_route(logins)))
    app.openapi_schema = None  # /docs is drawn anew


def make_app(host: Callable[[], Host]) -> FastAPI:
    """An app with the API alone, for everybody. Its description is there, and no page of documentation: that would load
    its scripts from other machines."""
    app = FastAPI(docs_url=None, redoc_url=None)
    add_api(app, host, {})
    return app


def _router(calls: Routes, logins: Mapping[str, str], route: type[APIRoute]) -> APIRouter:
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": schemas.FaultResponse, "description": description}
        for status, description in STATUSES.items()
        if logins or status != LOGIN
    }
    router = APIRouter(
        prefix=PREFIX,
        tags=["EmbedMerge"],
        route_class=route,
        responses=refusals,
        dependencies=[Depends(basic)] if logins else [],
    )
    built = schemas.BuildResponse | list[schemas.BuildResponse]
    routes: tuple[tuple[str, str, str, Callable[..., Any], Any], ...] = (
        ("POST", "/parse", "Show how a text is read", calls.parse, schemas.ParseResponse),
        ("POST", "/build", "Make an embedding", calls.build, built),
        ("GET", "/show", "Show an embedding", calls.show, schemas.ShowResponse),
        ("GET", "/list", "List all embeddings", calls.list_all, list[schemas.ListedResponse]),
        ("POST", "/rebuild", "Rebuild embeddings for other checkpoints", calls.rebuild, schemas.JobResponse),
        ("GET", "/rebuild/{job}", "Show the progress of a rebuild", calls.progress, schemas.JobStateResponse),
        ("DELETE", "/rebuild/{job}", "Stop a rebuild", calls.cancel, schemas.JobStateResponse),
        ("POST", "/recover", "Find the text that an embedding is made of", calls.recover, schemas.RecoverResponse),
        ("POST", "/compare", "Compare checkpoints", calls.compare, list[schemas.CompareResponse]),
    )
    for method, path, summary, call, answer in routes:
        router.add_api_route(path, call, methods=[method], summary=summary, response_model=answer)
    return router
