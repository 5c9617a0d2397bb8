"""The HTTP API inside a real web UI, as this was started: with --api, with --api-auth too, or without either.

Run as test_real_host.py is. Without --api there must be no route of ours, which is all that is tested then.
"""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from test_api_schema import OPERATIONS

from lib_embedmerge.embeddings.embedding import load_embedding
from webui.test_real_host import DIRECTORY, LOGIN, URL, ask, embeddings_folder, headers, refresh_embeddings

pytestmark = [
    pytest.mark.webui,
    pytest.mark.skipif(not (URL and DIRECTORY), reason="no EMBEDMERGE_WEBUI_URL and EMBEDMERGE_WEBUI_DIR"),
]

PREFIX = "/embedmerge/v1"
ROUTES = sorted(operation.replace(" ", f" {PREFIX}") for operation in OPERATIONS)
NAME, SOURCE = "emapi1", "'cat'+'dog'*0.5"


def api_routes() -> list[str]:
    """Of ours, those that the web UI's app has."""
    found: list[str] = ask("/embedmerge-probe/routes", post=False)
    return found


def call(method: str, path: str, body: Any = None, *, login: str = LOGIN) -> tuple[int, Any]:
    """Status and answer of one request; the answer as text where it is no JSON."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data, headers(login), method=method)
    try:
        with urllib.request.urlopen(request, timeout=580) as answer:
            status, content = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, content = error.code, error.read()
    try:
        return status, json.loads(content)
    except ValueError:
        return status, content.decode()


def good(method: str, path: str, body: Any = None) -> Any:
    """The answer of one of our routes, which takes the request."""
    status, answer = call(method, f"{PREFIX}/{path}", body)
    assert status == 200, answer
    return answer


@pytest.fixture(scope="module")
def api(started: dict[str, bool]) -> None:
    if not started["api"]:
        pytest.skip("the web UI was started without --api")


@pytest.fixture(scope="module")
def made(titles: dict[str, str]) -> Iterator[dict[str, Any]]:
    """What the API answers to the embedding that it is asked to make."""
    _clear()
    yield good("POST", "build", {"source": SOURCE, "name": NAME, "notes": "of a test"})
    _clear()


def _clear() -> None:
    for file in embeddings_folder().glob(f"{NAME}*"):
        file.unlink()
    refresh_embeddings()


def test_the_routes_are_those_that_the_start_asked_for(started: dict[str, bool]) -> None:
    wanted = ROUTES if started["api"] else []
    assert api_routes() == wanted
    status, schema = call("GET", "/openapi.json")
    assert status == 200
    ours = {path: list(methods) for path, methods in schema["paths"].items() if path.startswith("/embedmerge/")}
    assert sorted(f"{method.upper()} {path}" for path, methods in ours.items() for method in methods) == wanted
    assert call("GET", "/docs")[0] == 200


@pytest.mark.parametrize("route", ROUTES)
def test_without_the_api_nothing_answers(started: dict[str, bool], route: str) -> None:
    if started["api"]:
        pytest.skip("the web UI was started with --api")
    method, path = route.split()
    # GET pages of the web UI's take none of these; with other methods gradio may say 405.
    assert call(method, path.format(job="x"), {} if method == "POST" else None)[0] in (404, 405)


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("route", ROUTES)
def test_logins(started: dict[str, bool], route: str) -> None:
    method, path = route.split()
    body: dict[str, object] | None = {} if method == "POST" else None
    for login in ("", "nobody:nothing", LOGIN.upper(), LOGIN.partition(":")[0] + ":"):
        status, answer = call(method, path.format(job="x"), body, login=login)
        assert (status == 401) is started["logins"], (login, answer)
    assert call(method, path.format(job="x"), body)[0] in (200, 404, 422)


@pytest.mark.usefixtures("api")
def test_parse() -> None:
    answer = good("POST", "parse", {"source": "'cat'+'dog','red car'", "by": "words"})
    assert answer["kind"] == "expression"
    assert answer["vectors"] == 3
    status, answer = call("POST", f"{PREFIX}/parse", {"source": "'cat'+"})
    assert status == 422
    assert (answer["error"]["start"], answer["error"]["end"]) == (5, 6)


def test_build(made: dict[str, Any]) -> None:
    assert Path(made["file"]).name == f"{NAME}.safetensors"
    assert Path(made["file"]).is_file()
    assert (made["name"], made["vectors"], made["warnings"]) == (NAME, 1, [])
    assert ask(f"/embedmerge-probe/finds/{NAME}", post=False)["found"]
    status, _ = call("POST", f"{PREFIX}/build", {"source": "a car", "name": NAME})
    assert status == 409


@pytest.mark.usefixtures("made")
def test_list(titles: dict[str, str]) -> None:
    for query, wanted in (
        ("", None),
        ("?fit=true", "made for this model"),
        (f"?checkpoint={quote(titles['current'])}", "made for this model"),
        (f"?checkpoint={quote(titles['other'])}", "differs"),
    ):
        (found,) = (one for one in good("GET", f"list{query}") if one["name"] == NAME)
        assert (found["vectors"], found["recipe"], found["notes"]) == (1, SOURCE, "of a test")
        assert (found["fit"] and found["fit"]["status"]) == wanted, query


@pytest.mark.usefixtures("made")
def test_show(titles: dict[str, str]) -> None:
    shown = good("GET", f"show?embedding={NAME}&nearest=2")
    assert (shown["name"], shown["vectors"], set(shown["encoders"])) == (NAME, 1, {"clip_l", "clip_g"})
    assert shown["fit"]["status"] == "made for this model"
    other = good("GET", f"show?{urlencode({'embedding': NAME, 'checkpoint': titles['other']})}")
    assert other["fit"]["status"] == "differs"
    assert other["fit"]["distances"]["clip_l"]["relative_l2"] > 0.1


@pytest.mark.usefixtures("made")
def test_recover(titles: dict[str, str]) -> None:
    found = good("POST", "recover", {"embedding": NAME})
    assert found["expression"] == "'cat' + 'dog'*0.5"
    found = good("POST", "recover", {"embedding": NAME, "checkpoints": [titles["other"], titles["current"]]})
    assert found["expression"] == "'cat' + 'dog'*0.5"
    assert Path(found["checkpoint"]).name in titles["current"]  # SD.Next has the folder before it


def _ended(job: str) -> dict[str, Any]:
    """The state of a rebuild once it is over."""
    for _ in range(600):
        state: dict[str, Any] = good("GET", f"rebuild/{job}")
        if state["state"] != "running":
            return state
        time.sleep(0.5)
    pytest.fail("the rebuild did not end")


@pytest.mark.usefixtures("made")
def test_rebuild(titles: dict[str, str]) -> None:
    job = good("POST", "rebuild", {"embeddings": [NAME], "checkpoints": [titles["other"], titles["current"]]})["job"]
    state = _ended(job)
    assert state["state"] == "done", state
    assert (state["done"], state["total"], state["error"]) == (2, 2, None)
    assert [one["status"] for one in state["results"]] == ["written", "same vectors"]
    variant = Path(state["results"][0]["file"])
    assert load_embedding(variant).count == 1
    assert ask(f"/embedmerge-probe/finds/{quote(variant.stem)}", post=False)["found"]
    assert good("GET", f"rebuild/{job}?after=1")["results"] == state["results"][1:]


@pytest.mark.usefixtures("made")
def test_a_rebuild_is_cancelled(titles: dict[str, str]) -> None:
    names = [f"{NAME}copy{number}" for number in range(300)]
    for name in names:
        shutil.copyfile(embeddings_folder() / f"{NAME}.safetensors", embeddings_folder() / f"{name}.safetensors")
    asked = {"embeddings": names, "checkpoints": [titles["other"]]}
    job = good("POST", "rebuild", asked)["job"]
    assert call("POST", f"{PREFIX}/rebuild", asked)[0] == 409
    while not good("GET", f"rebuild/{job}")["done"]:
        time.sleep(0.01)
    good("DELETE", f"rebuild/{job}")
    state = _ended(job)
    assert state["state"] == "cancelled", state["counts"]
    assert 0 < state["done"] < state["total"] == len(names)
    written = [Path(result["file"]) for result in state["results"]]
    assert [load_embedding(file).count for file in written] == [1] * state["done"]
    assert {file for file in embeddings_folder().iterdir() if file.name.startswith(NAME)} == {
        embeddings_folder() / f"{name}.safetensors" for name in [NAME, *names]
    } | {embeddings_folder() / file.name for file in written} | set(embeddings_folder().glob(f"{NAME}-*"))


@pytest.mark.usefixtures("made")
def test_compare(titles: dict[str, str]) -> None:
    (pair,) = good("POST", "compare", {"checkpoints": [titles["current"], titles["other"]], "embedding": NAME})
    for key in ("clip_l", "clip_g"):
        assert pair["token_table"][key]["rows_differing"] > 0
        assert pair["outputs"][key]["relative_l2"] > 0
    assert pair["needs_rebuild"] is True
    assert pair["verdict"]


REFUSED: list[tuple[str, str, Any, int]] = [
    ("GET", "show?embedding=../../config.json", None, 403),
    ("GET", "show?embedding=%2Fetc%2Fpasswd", None, 403),
    ("GET", "show?embedding=C:%5CWindows%5Cx.safetensors", None, 403),
    ("GET", "show?embedding=nosuch1", None, 404),
    ("GET", "list?checkpoint=..%2F..%2Fsecret.safetensors", None, 403),
    ("GET", "rebuild/nosuch", None, 404),
    ("POST", "build", {"source": "cat", "name": "../outside1"}, 422),
    ("POST", "rebuild", {"embeddings": "all", "checkpoints": []}, 422),
    ("POST", "rebuild", {"embeddings": "all", "checkpoints": ["/etc/passwd"]}, 403),
    ("POST", "recover", {"embedding": "//server/share/x.pt"}, 403),
    ("POST", "compare", {"checkpoints": ["../a", "../b"]}, 403),
    ("POST", "parse", {"source": 5}, 422),
    ("POST", "parse", b"{", 422),
    ("POST", "parse", {"source": "x" * 1_000_000}, 413),
]


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(
    ("method", "path", "body", "status"), REFUSED, ids=[f"{path} {str(body)[:40]}" for _, path, body, _ in REFUSED]
)
def test_refused(method: str, path: str, body: Any, status: int) -> None:
    found, answer = call(method, f"{PREFIX}/{path}", body)
    assert found == status, answer
    assert set(answer) == {"error"}
    assert "Traceback" not in json.dumps(answer)
