"""The API in a web UI: only if the web UI's own API is on, and with its logins. Otherwise nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lib_embedmerge.hosts.webui.api_options import is_api_enabled, read_logins

if TYPE_CHECKING:
    from fastapi import FastAPI

    from lib_embedmerge.hosts.port import Host


def add_webui_api(app: FastAPI, host: Callable[[], Host]) -> None:
    """Add the API to the web UI's app, in place of an older one, if the web UI was started with --api."""
    if is_api_enabled():
        from lib_embedmerge.api.adding import add_api

        add_api(app, host, read_logins())
