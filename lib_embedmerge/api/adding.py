"""Add the routes to an app: to a web UI's, or to the app of the page of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import APIRoute

from lib_embedmerge.api import PREFIX, remove_routes, schemas
from lib_embedmerge.api.guard import basic, make_guarded_route
from lib_embedmerge.api.measuring_routes import MeasuringRoutes
from lib_embedmerge.api.optimising_routes import OptimisingRoutes
from lib_embedmerge.api.refused_requests import LOGIN, STATUSES
from lib_embedmerge.api.routes import Routes
from lib_embedmerge.hosts.port import Host


def add_api(app: FastAPI, host: Callable[[], Host], logins: Mapping[str, str]) -> None:
    """Add the API to an app, in place of an older one. logins: user -> password; none if everyone may use it."""
    remove_routes(app)
    app.include_router(_make_router(host, logins, make_guarded_route(logins)))


def make_app(host: Callable[[], Host]) -> FastAPI:
    """An app that has only the API, without logins.

    It has /openapi.json but no page of documentation, which would load scripts from other machines.
    """
    app = FastAPI(docs_url=None, redoc_url=None)
    add_api(app, host, {})
    return app


def _make_router(host: Callable[[], Host], logins: Mapping[str, str], route: type[APIRoute]) -> APIRouter:
    routes, measuring, optimising = Routes(host), MeasuringRoutes(host), OptimisingRoutes(host)
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
    state = schemas.LibraryJobResponse
    recovered = schemas.RecoverResponse | schemas.JobResponse
    built = schemas.BuildResponse | list[schemas.BuildResponse]
    table: tuple[tuple[str, str, str, Callable[..., Any], Any], ...] = (
        ("POST", "/parse", "Show how a text is read", routes.parse, schemas.ParseResponse),
        ("POST", "/build", "Make an embedding", routes.build, built),
        ("GET", "/show", "Show an embedding", routes.show, schemas.ShowResponse),
        ("GET", "/list", "List all embeddings", routes.list_all, list[schemas.ListedResponse]),
        ("POST", "/rebuild", "Rebuild embeddings for other checkpoints", routes.rebuild, schemas.JobResponse),
        ("GET", "/rebuild/{job}", "Show the progress of a rebuild", routes.progress, schemas.JobStateResponse),
        ("DELETE", "/rebuild/{job}", "Stop a rebuild", routes.cancel, schemas.JobStateResponse),
        ("POST", "/recover", "Find the text that an embedding is made of", routes.recover, recovered),
        ("GET", "/recover/{job}", "Show the progress of a recovery", routes.library_progress, state),
        ("DELETE", "/recover/{job}", "Stop a recovery", routes.cancel_library, state),
        ("POST", "/convert", "Make embeddings for another architecture", routes.convert, schemas.JobResponse),
        ("GET", "/convert/{job}", "Show the progress of a conversion", routes.library_progress, state),
        ("DELETE", "/convert/{job}", "Stop a conversion", routes.cancel_library, state),
        ("POST", "/restore", "Find the texts of a library", routes.restore, schemas.JobResponse),
        ("GET", "/restore/{job}", "Show the progress of a restore", routes.library_progress, state),
        ("DELETE", "/restore/{job}", "Stop a restore", routes.cancel_library, state),
        ("POST", "/compare", "Compare checkpoints", routes.compare, list[schemas.CompareResponse]),
    )
    jobs: tuple[tuple[str, str, Callable[..., Any], MeasuringRoutes | OptimisingRoutes], ...] = (
        ("effect", "Measure the effect of an embedding or text", measuring.effect, measuring),
        ("groups", "Find out which checkpoints can share a file", measuring.groups, measuring),
        ("tokens", "Measure what each token of a text matters", measuring.tokens, measuring),
        ("shorten", "Shorten a prompt", measuring.shorten, measuring),
        ("compress", "Make fewer vectors that do the same", optimising.compress, optimising),
        ("port", "Carry an embedding to another model", optimising.port, optimising),
        ("repair", "Repair an embedding that drowns its prompt", optimising.repair, optimising),
    )
    for name, summary, start, owner in jobs:
        table += (
            ("POST", f"/{name}", summary, start, schemas.JobResponse),
            ("GET", f"/{name}/{{job}}", f"Show the progress of {name}", owner.progress, state),
            ("DELETE", f"/{name}/{{job}}", f"Stop {name}", owner.cancel, state),
        )
    for method, path, summary, function, answer in table:
        router.add_api_route(path, function, methods=[method], summary=summary, response_model=answer)
    return router
