"""The API of the page's own server, over HTTP: with pydantic 1 under gradio 3.41.2, with pydantic 2 under 4.40."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from pages.conftest import Served

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(served: Served, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    """Status and answer of a request."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(served.url.rstrip("/") + path, data, headers, method=method)
    try:
        with DIRECT.open(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_an_embedding_made_listed_and_rebuilt(served: Served) -> None:
    status, parsed = ask(served, "POST", "/embedmerge/v1/parse", {"source": "'cat'+'dog'"})
    assert (status, parsed["vectors"]) == (200, 1)
    status, made = ask(served, "POST", "/embedmerge/v1/build", {"source": "'cat'+'dog'*0.5", "name": "by_api1"})
    assert (status, made["name"]) == (200, "by_api1")
    status, listed = ask(served, "GET", "/embedmerge/v1/list?fit=true")
    assert status == 200
    assert next(one for one in listed if one["name"] == "by_api1")["recipe"] == "'cat'+'dog'*0.5"
    wanted = {"embeddings": ["by_api1"], "checkpoints": ["demo.safetensors"]}
    status, begun = ask(served, "POST", "/embedmerge/v1/rebuild", wanted)
    assert status == 200
    state: Any = {"state": "running"}
    while state["state"] == "running":
        status, state = ask(served, "GET", f"/embedmerge/v1/rebuild/{begun['job']}")
        assert status == 200
    assert state["counts"] == {"same vectors": 1}
    status, recovered = ask(served, "POST", "/embedmerge/v1/recover", {"embedding": "by_api1"})
    assert (status, recovered["exact"]) == (200, True)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/parse", {"source": "'cat'+"}, 422),
        ("POST", "/parse", {"source": 7.5, "by": {}}, 422),
        ("POST", "/parse", {}, 422),
        ("POST", "/parse", b"{", 422),
        ("POST", "/parse", {"source": "x" * 1_000_001}, 413),
        ("POST", "/build", {"source": "cat", "name": "../outside"}, 422),
        ("GET", "/show?embedding=../secret.safetensors", None, 403),
        ("GET", "/show?embedding=nothing_of_that_name", None, 404),
        ("GET", "/rebuild/none", None, 404),
        ("POST", "/compare", {"checkpoints": ["demo.safetensors", "/etc/passwd"]}, 403),
    ],
)
def test_refused(served: Served, method: str, path: str, body: object, status: int) -> None:
    found, answer = ask(served, method, "/embedmerge/v1" + path, body)
    assert (found, list(answer)) == (status, ["error"])
    assert "Traceback" not in json.dumps(answer)


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/embedmerge/v1/parse"), ("POST", "/run/predict"), ("GET", "/config")]
)
def test_pages_of_other_sites_are_refused(served: Served, method: str, path: str) -> None:
    """gradio's own routes too: by these all can be done that can be done on the page."""
    body = {"source": "cat"} if method == "POST" else None
    for foreign in ({"Origin": "https://elsewhere.example"}, {"Host": "elsewhere.example:7860"}):
        assert ask(served, method, path, body, **foreign)[0] == 403
    assert ask(served, method, path, body, Origin=served.url.rstrip("/"))[0] != 403


def test_what_is_no_json_is_not_taken(served: Served) -> None:
    """A browser sends such a thing to any site without asking it."""
    found, _ = ask(served, "POST", "/embedmerge/v1/parse", {"source": "cat"}, **{"Content-Type": "text/plain"})
    assert found == 415
