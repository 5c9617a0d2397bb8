"""The server of the page of its own. Its port is reserved before the page is built and opened when all routes exist."""

from __future__ import annotations

import atexit
import contextlib
import inspect
import ipaddress
import logging
import socket
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

PORTS = range(7860, 7960)
"""The ports that are tried if the user names none."""

_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 3.0
_BACKLOG = 128

_running: list[tuple[uvicorn.Server, threading.Thread]] = []


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach a server that listens at this address. OSError if it is not an address."""
    results = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    return all(ipaddress.ip_address(str(result[4][0]).partition("%")[0]).is_loopback for result in results)


def reserve_port(address: str, port: int | None) -> socket.socket:
    """A socket that is bound to a port but does not listen yet.

    port: None for the first free one of PORTS. OSError if it is taken, or if none is free.
    """
    for candidate in PORTS if port is None else ():
        with contextlib.suppress(OSError):
            return _bind(address, candidate)
    return _bind(address, PORTS[-1] if port is None else port)


def _bind(address: str, port: int) -> socket.socket:
    family, kind, protocol, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        if sys.platform == "win32":  # here SO_REUSEADDR would let two programs use the same port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(target)
    except OSError:
        bound.close()
        raise
    return bound


def serve_from_thread(app: ASGIApp, bound: socket.socket) -> None:
    """Listen at a reserved port and serve `app` from a thread. The server stops when the program ends.

    OSError if another program listens at the port by now, or if the server does not start.
    """
    import uvicorn

    bound.listen(_BACKLOG)
    # No websockets, which only gradio's queue needs: no event of the page uses it.
    options: dict[str, Any] = {"log_level": "warning", "ws": "none", "lifespan": "on"}
    if "timeout_graceful_shutdown" in inspect.signature(uvicorn.Config.__init__).parameters:  # since 0.22
        options["timeout_graceful_shutdown"] = 1
    config = uvicorn.Config(app, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_TIMEOUT
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise OSError("the server did not start")
        time.sleep(0.01)

    if not _running:
        atexit.register(stop_all)
    _running.append((server, thread))


def stop_all() -> None:
    """Stop all servers of this program. Answers that are not finished within seconds are cut off."""
    # uvicorn would log each answer that is cut off with a stack trace, and gradio would print another one.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    if (routes := sys.modules.get("gradio.routes")) is not None:
        vars(routes)["traceback"] = SimpleNamespace(print_exc=lambda: None)
    while _running:
        server, thread = _running.pop()
        server.should_exit = True
        thread.join(_STOP_TIMEOUT)
