"""Which requests the page of its own answers: those of its own pages, of people, and of scripts."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from lib_embedmerge.ui.own_pages import OwnPagesOnly

HOST = "127.0.0.1:7860"
OWN = {"host": HOST, "origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}

ANSWERED = {
    "a script": {"host": HOST},
    "its own page": OWN,
    "its own page, other capitals": OWN | {"host": "LocalHost:7860", "origin": "http://localhost:7860"},
    "its own page by IPv6": {"host": "[::1]:7860", "origin": "http://[::1]:7860"},
    "by the machine's name": {"host": f"{socket.gethostname()}:7860"},
    "by the machine's name in its network": {"host": f"{socket.gethostname()}.local:7860"},
    "by the name that was asked for": {"host": "my-machine.lan:7860", "origin": "http://my-machine.lan:7860"},
    "an address typed in": {"host": HOST, **LINK, "sec-fetch-site": "none"},
    "a link followed": {"host": HOST, **LINK},
}
REFUSED = {
    "another site": {"host": HOST, "origin": "http://evil.example"},
    "another site, without an origin": {"host": HOST, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    "a page on another port": {"host": HOST, "origin": "http://127.0.0.1:8188", "sec-fetch-site": "same-site"},
    "a frame in another site": {"host": HOST, **LINK, "sec-fetch-dest": "iframe"},
    "a page without a site": {"host": HOST, "origin": "null"},
    "an origin that cannot be read": {"host": HOST, "origin": "http://["},
    "another name for this machine": {"host": "evil.example:7860", "origin": "http://evil.example:7860"},
    "a link to that name": {"host": "evil.example:7860", **LINK},
    "a name that looks like an address": {"host": "127.0.0.1.evil.example:7860"},
    "a host that cannot be read": {"host": "["},
    "no host": {},
}


def ask(headers: dict[str, str], **scope: Any) -> list[dict[str, Any]]:
    """What comes back of a request. In a thread, as other tests may have a loop running in this one."""
    sent: list[dict[str, Any]] = []

    async def app(_: object, __: object, send: Any) -> None:
        await send({"type": "answered"})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def run() -> None:
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        asked = {"type": "http", "method": "POST", "headers": encoded, **scope}
        await OwnPagesOnly(app, "my-machine.lan")(asked, None, send)  # type: ignore[arg-type] # nothing is received

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    thread.join(60)
    return sent


@pytest.mark.parametrize("name", ANSWERED)
def test_answered(name: str) -> None:
    assert ask(ANSWERED[name], method="GET" if "sec-fetch-mode" in ANSWERED[name] else "POST") == [{"type": "answered"}]


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    method = "GET" if "link" in name or "frame" in name else "POST"
    first, second = ask(REFUSED[name], method=method)
    assert (first["status"], second["type"]) == (403, "http.response.body")
    assert b"it came from another website" in second["body"]


def test_a_form_sent_from_another_site_is_no_link() -> None:
    assert ask({"host": HOST, **LINK})[0]["status"] == 403


def test_sockets_are_judged_alike() -> None:
    assert ask(OWN, type="websocket") == [{"type": "answered"}]
    assert ask(OWN | {"origin": "http://evil.example"}, type="websocket") == [{"type": "websocket.close", "code": 1008}]


def test_what_is_no_request_passes() -> None:
    assert ask({}, type="lifespan") == [{"type": "answered"}]
