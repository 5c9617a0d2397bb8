"""The server of the page of its own: a port that is taken before anything is built, and opened when all routes are
there."""

from __future__ import annotations

import atexit
import contextlib
import inspect
import ipaddress
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

PORTS = range(7860, 7960)
"""Those that are tried where none is named."""

_PATIENCE = 60.0
_FAREWELL = 3.0
_BACKLOG = 128

_running: list[tuple[uvicorn.Server, threading.Thread]] = []


def is_loopback(address: str) -> bool:
    """Whether an address to listen at is reached from this machine alone. OSError where it is none."""
    found = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    return all(ipaddress.ip_address(str(one[4][0]).partition("%")[0]).is_loopback for one in found)


def reserve(address: str, port: int | None) -> socket.socket:
    """The port for nobody else, and not open yet. port: None for the first free one. OSError where there is none."""
    for one in PORTS if port is None else ():
        with contextlib.suppress(OSError):
            return _bound(address, one)
    return _bound(address, PORTS[-1] if port is None else port)


def _bound(address: str, port: int) -> socket.socket:
    family, kind, protocol, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        if sys.platform == "win32":  # where SO_REUSEADDR would let two programs have one port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
    except OSError:
        bound.close()
        raise
    return bound


def serve_from_thread(app: ASGIApp, bound: socket.socket) -> None:
    """Open a reserved port and answer there, as long as the program runs; at its end what goes on is ended.

    OSError where another program has opened it meanwhile.
    """
    import uvicorn

    bound.listen(_BACKLOG)
    # No websockets: no event of the page waits in gradio's queue.
    options: dict[str, Any] = {"log_level": "warning", "ws": "none", "lifespan": "on"}
    if "timeout_graceful_shutdown" in inspect.signature(uvicorn.Config.__init__).parameters:  # since 0.22
        options["timeout_graceful_shutdown"] = 1
    config = uvicorn.Config(app, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + _PATIENCE
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise OSError("the server did not start")
        time.sleep(0.01)

    if not _running:
        atexit.register(stop_all)
    _running.append((server, thread))


def stop_all() -> None:
    """End all servers of this program; what they are answering is ended within seconds."""
    while _running:
        server, thread = _running.pop()
        server.should_exit = True
        thread.join(_FAREWELL)
