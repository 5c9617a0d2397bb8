"""What the page's server hands out, takes and fetches for whoever asks, and what the page has a browser ask others."""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, expect

from pages.conftest import ROOT, Served
from pages.drive import opened

SECRET = "nobody should see this"


def ask(url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Status and content of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers or {}), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


@pytest.fixture(scope="module")
def canary() -> Iterator[tuple[str, list[str]]]:
    """A server that counts who comes: its address, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<script>alert(1)</script>")

        def log_message(self, *_: object) -> None:
            """Nothing is said."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", asked
    server.shutdown()
    thread.join(30)
    server.server_close()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Its name is found nowhere else, whoever runs these tests at the same time."""
    path = tmp_path / f"secret-{uuid4().hex}.safetensors"
    path.write_text(SECRET, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", ["pyproject.toml", "lib_embedmerge/version.py", str(ROOT / "README.md")])
def test_no_file_of_the_folder_that_it_was_started_in(served: Served, path: str) -> None:
    assert ask(f"{served.url}file={path}")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "file/pyproject.toml", "file=/etc/hostname", "stream/x/1/1", "upload_progress?upload_id=x", "startup-events",
        "custom_component/x/component/index.js", "docs", "redoc", "dev/reload", "monitoring", "queue/data",
        "queue/status", "logout", "static/../../../blocks.py", "static/%2e%2e/%2e%2e/%2e%2e/blocks.py",
        "assets/..%2f..%2f..%2fblocks.py", "static/img/%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2fblocks.py",
    ],
)  # fmt: skip
def test_what_the_page_has_no_use_for_is_not_there(served: Served, path: str) -> None:
    status, content = ask(served.url + path)
    assert status in {403, 404}, content[:200]
    assert b"import" not in content


def test_nothing_is_fetched_for_anybody(served: Served, canary: tuple[str, list[str]]) -> None:
    address, asked = canary
    for path in (f"proxy={address}", f"file={address}", f"file/{address}"):
        assert ask(served.url + path)[0] == 404
    assert asked == []


def test_no_upload_is_taken_and_shown_as_a_page(served: Served) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="x.html"\r\nContent-Type: text/html\r\n\r\n'
        b"<script>alert(1)</script>\r\n--x--\r\n"
    )
    assert ask(served.url + "upload", body, {"content-type": "multipart/form-data; boundary=x"})[0] == 404


def test_no_event_takes_a_file_by_its_path_or_address(
    served: Served, canary: tuple[str, list[str]], secret: Path
) -> None:
    """Each event of the page with files in place of its values, as gradio's own components take them: 3.41.2 copies
    what is named into its cache, 4.40 fetches it."""
    address, asked = canary
    copies = _find_copies(secret)
    config = json.loads(ask(served.url + "config")[1])
    events = config["dependencies"]
    assert len(events) > 15
    files: list[Any] = [
        {"name": str(secret), "orig_name": "x.html", "is_file": True, "data": None, "size": 1},
        {"path": str(secret), "orig_name": "x.html", "meta": {"_type": "gradio.FileData"}},
        {"path": address + "x.html", "url": address, "meta": {"_type": "gradio.FileData"}},
        {"path": address + "plain.html"},
        [{"path": address + "several.html"}],
    ]
    for number, event in enumerate(events):
        if not event["inputs"]:  # nothing there could name a file
            continue
        for file in files:
            told = {"data": [file] * len(event["inputs"]), "fn_index": event.get("id", number), "session_hash": "x"}
            for path in ("run/predict", "api/predict", "run/predict/", "queue/join", "call/predict"):
                status, content = ask(
                    served.url + path, json.dumps(told).encode(), {"content-type": "application/json"}
                )
                assert status in {404, 422}, (path, content[:200])
                assert SECRET.encode() not in content
    assert asked == []
    assert _find_copies(secret) == copies


def _find_copies(file: Path) -> set[Path]:
    """The files with the name of a file in the folder for temporary files, in which other programs come and go."""
    found = os.walk(tempfile.gettempdir())  # which passes over folders that are gone
    return {Path(folder, file.name) for folder, _, names in found if file.name in names} - {file}


def test_an_event_of_any_size_is_not_read(served: Served) -> None:
    body = b'{"data": ["' + b"x" * 23_000_000 + b'"]}'
    try:
        status, content = ask(served.url + "run/predict", body, {"content-type": "application/json"})
    except (urllib.error.URLError, ConnectionError):  # it stopped reading
        return
    assert status == 413, content[:200]


def test_the_page_names_no_other_machine(served: Served) -> None:
    """In what a browser acts on by itself: not even for a connection in advance, which no script sees."""
    page = ask(served.url)[1].decode("utf-8")
    elements = re.findall(r"<(?:link|script|img|iframe|source|object|embed)\b[^>]*>", page, re.IGNORECASE)
    assert len(elements) > 2
    assert [
        element for element in elements if re.search(r"(?:href|src|data)\s*=\s*[\"']?(?:https?:)?//", element)
    ] == []


def test_the_page_asks_no_other_machine(served: Served, browser: Browser) -> None:
    """All requests of a browser, and what its policy kept it from: `opened` fails at the first that goes elsewhere."""
    with opened(browser, served.url) as tab:
        refused: list[str] = []
        tab.page.on("console", lambda said: refused.append(said.text) if "Content Security" in said.text else None)
        for title in ("Inspect", "Library", "Help", "Make"):
            tab.go(title)
        tab.write("'cat'+'dog'")
        tab.counts(1)
        tab.page.wait_for_timeout(1500)
        assert refused == []


def test_a_file_that_is_too_large_is_told(served: Served, browser: Browser) -> None:
    with opened(browser, served.url) as tab:
        tab.go("Inspect")
        tab.drop({"name": "huge.pt", "mimeType": "application/octet-stream", "buffer": bytes(16_000_001)})
        tab.has(
            tab.inspection.locator(".embedmerge-error-box"), "huge.pt", "16,000,001 bytes", "accepts at most 16,000,000"
        )


def test_a_file_is_dropped_with_the_mouse(served: Served, browser: Browser) -> None:
    with opened(browser, served.url) as tab:
        tab.go("Inspect")
        for name in ("first.safetensors", "second.safetensors"):
            tab.evaluate(
                """name => {
                    const data = new DataTransfer();
                    data.items.add(new File(["<html>"], name));
                    const place = document.querySelector("#embedmerge_file .embedmerge-drop");
                    const options = { dataTransfer: data, bubbles: true, cancelable: true };
                    for (const kind of ["dragover", "drop"]) {
                        place.dispatchEvent(new DragEvent(kind, options));
                    }
                }""",
                name,
            )
            tab.has(tab.inspection.locator(".embedmerge-error-box"), name)
        expect(tab.page.locator(".embedmerge-over")).to_have_count(0)
