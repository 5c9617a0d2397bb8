"""The API in a web UI: only where that has one too, and with its logins. Light where it has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lib_embedmerge.hosts.webui.api_options import is_api_enabled, read_logins

if TYPE_CHECKING:
    from fastapi import FastAPI

    from lib_embedmerge.hosts.port import Host


def add_webui_api(app: FastAPI, host: Callable[[], Host]) -> None:
    """Add the API to the web UI's app, in place of an older one."""
    if is_api_enabled():
        from lib_embedmerge.api.adding import add_api

        add_api(app, host, read_logins())
