"""What of gradio's routes the page of its own serves, and what its page has a browser ask others: nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgi import Answer, ask, echo

from lib_embedmerge.ui import own_routes
from lib_embedmerge.ui.own_routes import OwnRoutesOnly

APP = OwnRoutesOnly(echo)


def post(path: str, told: object, **options: Any) -> Answer:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    return ask(APP, body=[body], method="POST", path=path, **options)


@pytest.mark.parametrize(
    "path",
    [
        "/", "/config", "/config/", "/theme.css", "/favicon.ico", "/info", "/assets/index-1.js", "/static/img/logo.svg",
        "/heartbeat/abc123",
        "/gradio_api/heartbeat/abc123", "/login_check", "/embedmerge/v1/list", "/openapi.json",
    ],
)  # fmt: skip
def test_what_the_page_reads(path: str) -> None:
    assert [ask(APP, path=path, method=method).status for method in ("GET", "HEAD")] == [200, 200]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/file=/etc/passwd"), ("GET", "/file/x"), ("HEAD", "/file=x"), ("GET", "/proxy=http://evil.example/"),
        ("POST", "/upload"), ("GET", "/stream/x"), ("GET", "/queue/data"), ("POST", "/queue/join"),
        ("POST", "/call/predict"), ("GET", "/call/predict/x"), ("POST", "/component_server"), ("GET", "/docs"),
        ("GET", "/custom_component/x/y/z"), ("GET", "/startup-events"), ("GET", "/monitoring"), ("POST", "/login"),
        ("GET", "/assets/../blocks.py"), ("GET", "/static/x/../../y"), ("PUT", "/"), ("POST", "/"), ("GET", "/reset"),
        ("DELETE", "/run/predict"), ("GET", "/run/predict"), ("GET", "/heartbeat/a/b"), ("GET", "/config/x"),
        ("GET", "/embedmerge/v2/list"), ("POST", "/gradio_api/upload"), ("GET", "/gradio_api/file=x"),
        ("POST", "/gradio_api/queue/join"), ("GET", "/gradio_api/info"), ("GET", "/gradio_api/proxy=x"),
        ("GET", "/x\n/"), ("GET", "//"), ("GET", ""), ("POST", "/run/a/b"),
    ],
)  # fmt: skip
def test_what_it_has_no_use_for(method: str, path: str) -> None:
    answer = ask(APP, method=method, path=path)
    assert (answer.status, json.loads(answer.body)) == (404, {"error": {"message": "This page does not exist."}})


@pytest.mark.parametrize("path", ["/run/predict", "/run/predict/", "/api/predict", "/gradio_api/run/predict"])
def test_events_of_the_page(path: str) -> None:
    told = {
        "data": ["'cat'", None, True, 1, 0.5, ["a", "b"], []],
        "fn_index": 3,
        "session_hash": "x",
        "event_data": None,
    }
    assert post(path, told).body == json.dumps(told).encode()
    assert post("/reset", {"session_hash": "x"}).status == 200


@pytest.mark.parametrize(
    "told",
    [
        {"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}]},
        {"data": [{"name": "/etc/passwd", "is_file": True}]},
        {"data": ["x", [{"path": "http://evil.example/"}]]},
        {"data": [[["x"]]]},
        {"data": {"path": "/etc/passwd"}},
        {"data": ["x"], "event_data": {"path": "/etc/passwd"}},
        {"data": ["x"], "request": [1]},
        {"fn_index": 1},
        ["x"],
        "x",
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_what_its_script_never_sends(told: object) -> None:
    answer = post("/run/predict", told)
    assert answer.status == 422
    assert b"/etc/passwd" not in answer.body


def test_a_large_event(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [b'{"data": ["', b"x" * 1000, b'"]}']
    for largest, status in ((2000, 200), (1000, 413)):
        monkeypatch.setattr(own_routes, "LARGEST_BODY", largest)
        answer = ask(APP, body=pieces, method="POST", path="/run/predict")
        assert answer.status == status
    assert ask(APP, body=None, method="POST", path="/run/predict").status == 422


PAGE = b"""<!doctype html><html><head>
<meta property="og:url" content="https://gradio.app/" />
<link rel="preconnect" href="https://fonts.googleapis.com" />
<link
    rel="preconnect"
    href="https://fonts.gstatic.com"
    crossorigin="anonymous"
/>
<script
    src="https://cdnjs.cloudflare.com/ajax/libs/iframe-resizer/4.3.1/iframeResizer.contentWindow.min.js"
    async
></script>
<link rel="stylesheet" href="./assets/index.css"><script type="module" src="./assets/index.js"></script>
<script>window.x = "<b> https://example.org";</script></head></html>"""


def test_the_page_names_no_other_machine() -> None:
    async def page(_: object, __: object, send: Any) -> None:
        headers = [(b"content-type", b"text/html"), (b"Content-Length", str(len(PAGE)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(PAGE), 50):
            more = start + 50 < len(PAGE)
            await send({"type": "http.response.body", "body": PAGE[start : start + 50], "more_body": more})

    answer = ask(OwnRoutesOnly(page))
    assert b"gstatic" not in answer.body
    assert b"googleapis" not in answer.body
    assert b"iframe-resizer" not in answer.body
    for kept in (b"og:url", b"./assets/index.css", b'src="./assets/index.js"', b"https://example.org", b"</html>"):
        assert kept in answer.body
    assert answer.headers["content-length"] == str(len(answer.body))
    assert "connect-src 'self'" in answer.headers["content-security-policy"]
    assert "http" not in answer.headers["content-security-policy"]


def test_no_socket_is_opened_and_what_is_no_request_passes() -> None:
    assert ask(APP, type="websocket", path="/queue/join").messages == [{"type": "websocket.close", "code": 1008}]
    assert ask(APP, type="lifespan").status == 200
